package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// sealed returns a text as age -e writes it, armored or not.
func sealed(text string, armored bool, to age.Recipient) ([]byte, error) {
	var file bytes.Buffer
	var out io.WriteCloser = nopCloser{&file}
	if armored {
		out = armor.NewWriter(&file)
	}
	w, err := age.Encrypt(out, to)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return nil, err
	}
	err = errors.Join(w.Close(), out.Close())
	return file.Bytes(), err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// recipient returns what a word stands for: keys of age and of SSH, else a
// passphrase.
func recipient(word string) (age.Recipient, error) {
	switch {
	case strings.HasPrefix(word, "age1"):
		return age.ParseX25519Recipient(word)
	case strings.HasPrefix(word, "ssh-"):
		return agessh.ParseRecipient(word)
	}
	r, err := age.NewScryptRecipient(word)
	if err == nil {
		r.SetWorkFactor(10) // quick
	}
	return r, err
}

// testKey is a key of age that opens nothing outside of tests.
const (
	testKey       = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
	testRecipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
)

// seal FILE RECIPIENT [armor] encrypts a file to FILE less .yaml and with .age,
// and removes it.
func seal(ts *testscript.TestScript, _ bool, args []string) {
	to, err := recipient(args[1])
	ts.Check(err)
	data, err := sealed(ts.ReadFile(args[0]), len(args) > 2, to)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(strings.TrimSuffix(args[0], ".yaml")+".age"), data, 0o644))
	ts.Check(os.Remove(ts.MkAbs(args[0])))
}

// grow FILE BYTES makes a file of zeros.
func grow(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), make([]byte, size), 0o600))
}

// sealFile puts an encrypted text into a file.
func sealFile(t *testing.T, file, text, to string) {
	t.Helper()
	r, err := recipient(to)
	require.NoError(t, err)
	data, err := sealed(text, strings.HasSuffix(file, "s.age"), r)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, data, 0o644))
}

// keyFile writes testKey into a file and returns its path.
func keyFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.txt")
	require.NoError(t, os.WriteFile(file, []byte("# created: today\n"+testKey+"\n"), 0o600))
	return file
}
