package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"
)

const sealedHeader = "age-encryption.org/"

// isSealed reports whether data is what age makes, armored or not.
func isSealed(data []byte) bool {
	return bytes.HasPrefix(data, []byte(sealedHeader)) || isArmored(data)
}

func isArmored(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(data), []byte(armor.Header))
}

// keyring opens files that age has encrypted.
type keyring struct {
	file string                                          // for messages
	ask  func(what string, nobody error) (string, error) // returns a passphrase; nobody is the error without a person
	err  error                                           // why a passphrase was not to be had, or is wrong
}

// open decrypts data with identity files, or with a passphrase.
func (k *keyring) open(data []byte, files []string) ([]byte, error) {
	identities := []age.Identity{passphraseIdentity{k}}
	for _, file := range files {
		list, err := k.identities(file)
		if err != nil {
			return nil, fmt.Errorf("--age-identity %s: %w", file, err)
		}
		identities = append(identities, list...)
	}
	text, err := decrypt(data, identities)
	var none *age.NoIdentityMatchError
	switch {
	case k.err != nil:
		return nil, fmt.Errorf("%s: %w", k.file, k.err)
	case errors.As(err, &none) && len(files) == 0:
		return nil, fmt.Errorf("%s: is encrypted to keys (%s); give the file with one of them: --age-identity FILE, or CERTBOOK_AGE_IDENTITY", k.file, kinds(none))
	case errors.As(err, &none):
		return nil, fmt.Errorf("%s: is not encrypted to %s; give another --age-identity, or encrypt it anew to that one as well", k.file, strings.Join(files, " or "))
	case err != nil:
		return nil, fmt.Errorf("%s: is damaged: %v; take it from a copy", k.file, err)
	}
	return text, nil
}

func decrypt(data []byte, identities []age.Identity) ([]byte, error) {
	var in io.Reader = bytes.NewReader(data)
	if isArmored(data) {
		in = armor.NewReader(in)
	}
	out, err := age.Decrypt(in, identities...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(out)
}

// kinds names the kinds of keys that a file is encrypted to.
func kinds(e *age.NoIdentityMatchError) string {
	list := slices.Clone(e.StanzaTypes)
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ", ")
}

// identities reads an identity file: what age-keygen prints, or a private key of
// SSH. Either may have a passphrase.
func (k *keyring) identities(file string) ([]age.Identity, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, errors.Unwrap(err) // without the name
	}
	if isSealed(data) {
		if data, err = decrypt(data, []age.Identity{passphraseIdentity{&keyring{file: file, ask: k.ask}}}); err != nil {
			return nil, fmt.Errorf("cannot be opened: %w", err)
		}
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		id, err := k.sshIdentity(file, data)
		return []age.Identity{id}, err
	}
	list, err := age.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("is no identity: want a file from age-keygen, or an SSH private key (ed25519 or RSA)")
	}
	return list, nil
}

// sshIdentity reads an SSH private key. Its passphrase is asked for when the file
// is encrypted to that key.
func (k *keyring) sshIdentity(file string, data []byte) (age.Identity, error) {
	id, err := agessh.ParseIdentity(data)
	var locked *ssh.PassphraseMissingError
	switch {
	case err == nil:
		return id, nil
	case !errors.As(err, &locked):
		return nil, fmt.Errorf("is no private key that age can use (ed25519 or RSA): %w", err)
	case locked.PublicKey == nil:
		return nil, fmt.Errorf("is encrypted in an old format; convert it with ssh-keygen -p -o -f %s", file)
	}
	return agessh.NewEncryptedSSHIdentity(locked.PublicKey, data, func() ([]byte, error) {
		phrase, err := k.ask("passphrase of "+file, fmt.Errorf("key %s has a passphrase, and there is no terminal to ask for it", file))
		if err != nil {
			k.err = err
			return nil, err
		}
		if _, err := ssh.ParseRawPrivateKeyWithPassphrase(data, []byte(phrase)); err != nil {
			k.err = fmt.Errorf("the passphrase of key %s is wrong", file)
			return nil, k.err
		}
		return []byte(phrase), nil
	})
}

// passphraseIdentity opens what was encrypted with a passphrase, which it asks
// for only then.
type passphraseIdentity struct{ *keyring }

// Unwrap implements age.Identity.
func (p passphraseIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) != 1 || stanzas[0].Type != "scrypt" {
		return nil, age.ErrIncorrectIdentity
	}
	phrase, err := p.ask("passphrase of "+p.file, errors.New("is encrypted with a passphrase, and there is no terminal to ask for it; encrypt it to a key and give --age-identity"))
	if err != nil {
		p.err = err
		return nil, err
	}
	wrong := errors.New("the passphrase is wrong")
	id, err := age.NewScryptIdentity(phrase)
	if err != nil { // it is empty
		p.err = wrong
		return nil, wrong
	}
	key, err := id.Unwrap(stanzas)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		err = wrong
	}
	p.err = err
	return key, err
}
