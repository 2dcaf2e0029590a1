package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Namespace is the SSHSIG namespace of checkpoints: a signature that was made
// for another purpose is none of a checkpoint, and the other way round.
const Namespace = "certbook-audit"

// sign returns the signature of a document as ssh-keygen -Y sign would.
func sign(key ssh.Signer, doc []byte) ([]byte, error) {
	sig, err := sshsig.Sign(bytes.NewReader(doc), key, sshsig.HashSHA512, Namespace)
	if err != nil {
		return nil, err
	}
	return sshsig.Armor(sig), nil
}

// ReadKey reads an ed25519 private key as ssh-keygen makes it. The file must be
// its owner's alone. passphrase is asked when the key has one.
func ReadKey(file string, passphrase func() (string, error)) (ssh.Signer, error) {
	data, err := readPrivate(file)
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		var phrase string
		if phrase, err = passphrase(); err != nil {
			return nil, err
		}
		if key, err = ssh.ParsePrivateKeyWithPassphrase(data, []byte(phrase)); err != nil {
			return nil, fmt.Errorf("%s: the passphrase is wrong", file)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: is no private key: %w", file, err)
	}
	if kind := key.PublicKey().Type(); kind != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("%s: is a key of type %s, want %s; make one with ssh-keygen -t ed25519", file, kind, ssh.KeyAlgoED25519)
	}
	return key, nil
}

// readPrivate reads a small file that only its owner may read.
func readPrivate(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: others may read it (mode %04o); chmod 600 it", file, mode)
	}
	return io.ReadAll(io.LimitReader(f, 1<<20))
}
