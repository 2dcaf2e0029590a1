package audit

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"certbook/engine"
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

// scrub returns a copy of an event without what looks like a secret and with
// long texts shortened, and says how many values that were.
func scrub(e engine.Event) (clean engine.Event, secrets, cut int) {
	e.Outputs = nil // never recorded
	s := &scrubber{}
	clean = s.value(reflect.ValueOf(e)).Interface().(engine.Event)
	return clean, s.secrets, s.cut
}

type scrubber struct{ secrets, cut int }

// value returns a clean copy of v.
func (s *scrubber) value(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.String:
		out.SetString(s.text(v.String()))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return out
		}
		for i := range v.NumField() {
			out.Field(i).Set(s.value(v.Field(i)))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(s.value(v.Elem()).Addr())
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		}
		for i := range v.Len() {
			out.Index(i).Set(s.value(v.Index(i)))
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		}
		for _, key := range v.MapKeys() {
			out.SetMapIndex(s.value(key), s.entry(key, v.MapIndex(key)))
		}
	}
	return out
}

// entry returns a clean copy of a map's value, which its key may call a secret.
func (s *scrubber) entry(key, v reflect.Value) reflect.Value {
	if key.Kind() == reflect.String && secretName.MatchString(key.String()) && v.Kind() == reflect.String && !masked(v.String()) {
		s.secrets++
		return reflect.ValueOf(redacted).Convert(v.Type())
	}
	return s.value(v)
}

// text returns s without what looks like a secret.
func (s *scrubber) text(t string) string {
	if len(t) <= MaxText && plain(t) {
		return t
	}
	t = pemKey.ReplaceAllStringFunc(t, s.replace)
	t = pemBase64.ReplaceAllStringFunc(t, func(b string) string {
		if certificates(b) {
			return b
		}
		return s.replace(b)
	})
	for _, form := range []*regexp.Regexp{named, flagged, bearer, jwt} {
		t = form.ReplaceAllStringFunc(t, func(hit string) string {
			m := form.FindStringSubmatch(hit)
			if m == nil || masked(m[2]) {
				return hit
			}
			return m[1] + s.replace(m[2])
		})
	}
	if len(t) <= MaxText {
		return t
	}
	s.cut++
	end := MaxText
	for end > 0 && !utf8.RuneStart(t[end]) {
		end--
	}
	return fmt.Sprintf("%s... (%d bytes left out)", t[:end], len(t)-end)
}

// plain says whether a text has nothing that a secret would begin with, as names
// and paths have not.
func plain(t string) bool {
	return !strings.ContainsAny(t, ":= \t\n") && !strings.Contains(t, "LS0tLS1") && !strings.Contains(t, "eyJ")
}

func (s *scrubber) replace(string) string {
	s.secrets++
	return redacted
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
