package audit

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Signers are the keys whose signatures count, as in an allowed_signers file of
// OpenSSH (see ssh-keygen(1)). Lines with cert-authority allow nobody here.
type Signers struct {
	file string
	list []signer
}

// signer is one line.
type signer struct {
	name          string // its principals
	key           ssh.PublicKey
	namespaces    []string // patterns; nil for all
	after, before time.Time
}

// ReadSigners reads an allowed_signers file.
func ReadSigners(file string) (*Signers, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := &Signers{file: file}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		one, authority, err := parseSigner(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		if !authority {
			s.list = append(s.list, one)
		}
	}
	return s, nil
}

// parseSigner reads a line: principals, perhaps options, a public key.
func parseSigner(line string) (one signer, authority bool, err error) {
	var rest string
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		one.name, rest, _ = strings.Cut(quoted, `"`)
	} else if i := strings.IndexAny(line, " \t"); i > 0 {
		one.name, rest = line[:i], line[i:]
	}
	var options []string
	if one.key, _, options, _, err = ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(rest))); err != nil {
		return one, false, fmt.Errorf("want PRINCIPALS [OPTIONS] KEYTYPE KEY: %.80q", line)
	}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "cert-authority":
			authority = true
		case "namespaces":
			one.namespaces = strings.Split(value, ",")
		case "valid-after":
			one.after, err = parseTime(value)
		case "valid-before":
			one.before, err = parseTime(value)
		default:
			err = fmt.Errorf("unknown option %q", name)
		}
		if err != nil {
			return one, false, err
		}
	}
	return one, authority, nil
}

// parseTime reads YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS: local time, or UTC
// with a Z behind it.
func parseTime(text string) (time.Time, error) {
	digits, utc := strings.CutSuffix(text, "Z")
	zone := time.Local
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(digits) == len(layout) {
			return time.ParseInLocation(layout, digits, zone)
		}
	}
	return time.Time{}, fmt.Errorf("time %q: want YYYYMMDD[HHMM[SS]][Z]", text)
}

// verify reads a signed checkpoint and returns the principals of the key that
// signed it. A key's time of validity is held against the checkpoint's time.
func (s *Signers) verify(doc, armored []byte) (c Checkpoint, by string, err error) {
	sig, err := sshsig.Unarmor(armored)
	if err != nil {
		return c, "", fmt.Errorf("its signature cannot be read: %v", err)
	}
	if err := sshsig.Verify(bytes.NewReader(doc), sig, sig.PublicKey, sig.HashAlgorithm, Namespace); err != nil {
		return c, "", fmt.Errorf("its signature does not fit: %v", err)
	}
	if c, err = parseCheckpoint(doc); err != nil {
		return c, "", err
	}
	for _, one := range s.list {
		if bytes.Equal(one.key.Marshal(), sig.PublicKey.Marshal()) && one.allowed(c.Time) {
			return c, one.name, nil
		}
	}
	return c, "", fmt.Errorf("is signed by %s, which %s does not allow for namespace %s at %s",
		ssh.FingerprintSHA256(sig.PublicKey), s.file, Namespace, c.Time.Format(time.RFC3339))
}

// allowed says whether the signer may sign a checkpoint of time t.
func (s signer) allowed(t time.Time) bool {
	if !s.after.IsZero() && t.Before(s.after) || !s.before.IsZero() && !t.Before(s.before) {
		return false
	}
	ok := s.namespaces == nil
	for _, pattern := range s.namespaces {
		pattern, not := strings.CutPrefix(pattern, "!")
		if match, err := path.Match(pattern, Namespace); err == nil && match {
			if not {
				return false
			}
			ok = true
		}
	}
	return ok
}
