package engine

import (
	"encoding/base64"
	"regexp"
	"strings"
)

const redacted = "REDACTED"

const secretNames = `client-key-data|token|password|passwd|passphrase|client-secret|id-token|refresh-token|access-token|auth-token|bearer-token|certificate-key|certificatekey|private-key|private_key|tls\.key`

var (
	pemKey     = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*-----|\z)`)
	pemBase64  = regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/]*(?:\s+[A-Za-z0-9+/]{16,})*=*`)
	bearer     = regexp.MustCompile(`(?i)(\bbearer\s+)([A-Za-z0-9._~+/-]{8,}=*)`)
	jwt        = regexp.MustCompile(`()(\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)`)
	named      = regexp.MustCompile(`(?i)((?:^|[^a-z0-9_-]|--)(?:` + secretNames + `)\\?["']?\s*[:=]\s*)(\\?"(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,}]+)`)
	flagged    = regexp.MustCompile(`(?i)(--(?:` + secretNames + `)\s+)('[^']*'?|"[^"]*"?|[^\s-]\S*)`)
	secretName = regexp.MustCompile(`(?i)^(?:` + secretNames + `)$`)
)

// Scrub returns a text with what looks like a private key, a token or a
// password replaced by REDACTED, and the number of these. key is the text's key
// in a mapping, which may call it a secret; else "".
func Scrub(key, text string) (clean string, found int) {
	if secretName.MatchString(key) && !masked(text) {
		return redacted, 1
	}
	if plainText(text) {
		return text, 0
	}
	replace := func(string) string {
		found++
		return redacted
	}
	text = pemKey.ReplaceAllStringFunc(text, replace)
	text = pemBase64.ReplaceAllStringFunc(text, func(b string) string {
		if certificates(b) {
			return b
		}
		return replace(b)
	})
	for _, form := range []*regexp.Regexp{named, flagged, bearer, jwt} {
		text = form.ReplaceAllStringFunc(text, func(hit string) string {
			m := form.FindStringSubmatch(hit)
			if m == nil || masked(m[2]) {
				return hit
			}
			return m[1] + replace(m[2])
		})
	}
	return text, found
}

// plainText says whether a text has nothing that a secret would begin with, as
// names and paths have not.
func plainText(t string) bool {
	return !strings.ContainsAny(t, ":= \t\n") && !strings.Contains(t, "LS0tLS1") && !strings.Contains(t, "eyJ")
}

// masked says whether a value has been taken out already.
func masked(value string) bool {
	value = strings.Trim(value, `\"'`)
	return value == "" || value == redacted || strings.Trim(value, "*") == ""
}

// certificates says whether base64 text is certificates and nothing else.
func certificates(b string) bool {
	plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.Join(strings.Fields(b), ""), "="))
	return err == nil && strings.HasPrefix(string(plain), "-----BEGIN CERTIFICATE") && !strings.Contains(string(plain), "PRIVATE KEY")
}
