package host

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
)

var (
	keyBegin  = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*-----`)
	keyEnd    = regexp.MustCompile(`-----END [A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*-----`)
	pemBase64 = regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/]+=*`)
	secretKey = regexp.MustCompile(`["']?(?:client-key-data|token|password|passwd|client-secret|id-token|refresh-token|access-token|bearertoken|certificatekey|certificate-key|secret|tls\.key|private_key)\\?["']?[ \t]*[:=]`)
	otherKey  = regexp.MustCompile(`^[ \t]*(?:- )?["']?[A-Za-z0-9_./-]+["']?[ \t]*[:=]|^[ \t]*[}\]]|^[ \t]*(?:#|---|\.\.\.)`)
	doubleEnd = regexp.MustCompilePOSIX(`^([^"\\]|\\.)*"`)
	singleEnd = regexp.MustCompilePOSIX(`^([^']|'')*'`)
)

// maxInLine bounds the work on one line: what follows so many secrets is taken
// for one that may go on in the next lines.
const maxInLine = 500

const certStart = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS" // base64 of -----BEGIN CERTIFICATE

// secretWords are such that each match of secretKey holds one: most lines have
// none, and looking for a word is far quicker.
var secretWords = []string{"key", "token", "pass", "secret"}

// Redact returns text without its secrets, and whether there were any:
//
//   - PEM private keys are left out, wherever they begin in a line;
//   - base64 of a PEM block other than a certificate is replaced;
//   - the value of a key that names a secret (client-key-data, token,
//     password, ...) is replaced by REDACTED: in YAML the rest of the line and
//     the lines below it that are indented deeper, or the quoted string; in
//     JSON and flow style the string, or what comes before a comma or brace.
//
// What is unclear is taken for a secret. Redact(Redact(x)) is Redact(x).
func Redact(text []byte) ([]byte, bool) {
	r := &redactor{drop: -1}
	for len(text) > 0 {
		line, rest, newline := bytes.Cut(text, []byte("\n"))
		before := len(r.out)
		r.line(string(line))
		if !newline && len(r.out) > before {
			r.out = r.out[:len(r.out)-1]
		}
		text = rest
	}
	return r.out, r.found
}

// redactor is the state between two lines of a text.
type redactor struct {
	out   []byte
	found bool
	key   bool // within a PEM private key
	drop  int  // lines indented deeper than this belong to a secret; -1: none do
	pend  bool // a secret's value was not on its line
	quote byte // a secret's string that is open, 0 for none
}

func (r *redactor) line(s string) {
	s, keep := r.blocks(s)
	if !keep {
		return
	}
	s = pemBase64.ReplaceAllStringFunc(s, r.base64)
	if r.quote != 0 {
		n := stringEnd(s, r.quote)
		if n < 0 {
			return
		}
		s, r.quote = s[n:], 0
		if blank(s) {
			return
		}
	}
	if indent := len(s) - len(strings.TrimLeft(s, " \t")); r.drop >= 0 {
		if indent > r.drop || indent == len(s) {
			r.found = true
			return
		}
		r.drop = -1
	}
	if r.pend && !blank(s) {
		r.pend = false
		if !otherKey.MatchString(s) {
			r.found = true
			s = "REDACTED"
		}
	}
	r.out = append(append(r.out, r.values(s)...), '\n')
}

// blocks takes PEM private keys out of a line. It is not kept when nothing is left.
func (r *redactor) blocks(s string) (string, bool) {
	out, hit := "", r.key
	for n := 0; ; n++ {
		if r.key {
			at := keyEnd.FindStringIndex(s)
			if at == nil {
				break
			}
			s, r.key = s[at[1]:], false
		}
		at := keyBegin.FindStringIndex(s)
		if at == nil {
			out += s
			break
		}
		if n == maxInLine {
			out, hit, r.key = out+"REDACTED", true, true
			break
		}
		out += s[:at[0]]
		s, r.key, hit = s[at[1]:], true, true
	}
	r.found = r.found || hit
	return out, !hit || !blank(out)
}

// base64 replaces encoded PEM that is, or may be, something else than certificates.
func (r *redactor) base64(s string) string {
	if strings.HasPrefix(s, certStart) {
		plain, _ := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
		if !bytes.Contains(plain, []byte("PRIVATE KEY")) {
			return s
		}
	}
	r.found = true
	return "REDACTED"
}

// values replaces what follows the keys of secrets in a line.
func (r *redactor) values(s string) string {
	if small := lower(s); !slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(small, w) }) {
		return s
	}
	out := ""
	for n := 0; ; n++ {
		at := secretKey.FindStringIndex(lower(s))
		if at == nil {
			return out + s
		}
		if n == maxInLine {
			r.found, r.drop = true, 0
			return out + "REDACTED"
		}
		start, before := len(out)+at[0], s[:at[0]]
		out, s = out+s[:at[1]], s[at[1]:]
		if before != "" && !isQuote(out[start]) && strings.Contains(wordChars, lower(before[len(before)-1:])) {
			continue // the end of a longer word
		}
		ahead := strings.TrimRight(out[:start], " \t")
		flow := strings.HasSuffix(ahead, "{") || strings.HasSuffix(ahead, ",")
		value := strings.TrimLeft(s, " \t")
		out, s = out+s[:len(s)-len(value)], value
		switch {
		case s == "" || s[0] == '#' || s == "\r":
			r.pend, r.drop = true, start
			return out
		case isQuote(s[0]):
			r.found = true
			out += s[:1] + "REDACTED" + s[:1]
			n := stringEnd(s[1:], s[0])
			if n < 0 {
				r.quote = s[0]
				return out
			}
			s = s[1+n:]
			continue
		}
		r.found = true
		out += "REDACTED"
		end := strings.IndexAny(s, ",}")
		if !flow {
			r.drop = start
		}
		if !flow || end < 0 {
			return out
		}
		s = s[end:]
	}
}

const wordChars = "abcdefghijklmnopqrstuvwxyz0123456789_.-"

func isQuote(c byte) bool { return c == '"' || c == '\'' }

func blank(s string) bool { return strings.Trim(s, " \t\r") == "" }

// stringEnd returns the length of s up to and with the closing quote, or -1.
func stringEnd(s string, quote byte) int {
	end := doubleEnd
	if quote == '\'' {
		end = singleEnd
	}
	if at := end.FindStringIndex(s); at != nil {
		return at[1]
	}
	return -1
}

// lower is strings.ToLower for ASCII alone: it keeps every byte in its place.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
