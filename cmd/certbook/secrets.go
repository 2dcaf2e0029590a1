package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"certbook/schema"
)

// maxSealed is the size in bytes of the largest file with secrets.
const maxSealed = 1 << 20

// load reads the documents and opens the secrets that the inventory names.
func (s *session) load(ctx context.Context, playbook string) (*loaded, error) {
	return s.docs.load(playbook, s.actions(), func(inv *schema.Inventory) (*schema.Inventory, error) {
		return s.withSecrets(ctx, inv)
	})
}

// withSecrets returns the inventory with its secrets. Its errors begin with the
// place in the inventory that names them.
func (s *session) withSecrets(ctx context.Context, inv *schema.Inventory) (*schema.Inventory, error) {
	if inv.Secrets.Pos.Source == nil {
		return inv, nil
	}
	out := *inv
	var err error
	if out.Sealed, err = readSealed(inv); err != nil {
		return nil, namedAt(inv, err)
	}
	identities := s.docs.identityFiles()
	if s.lintOnly && len(identities) == 0 {
		return &out, nil
	}
	if s.opened == nil {
		text, err := s.unseal(ctx, out.Sealed, identities)
		if ctx.Err() != nil || errors.As(err, new(*exitError)) {
			return nil, err
		}
		if err != nil {
			return nil, namedAt(inv, err)
		}
		if s.opened, err = schema.ParseSecrets(&schema.Source{Name: out.Sealed.Name, Data: text}); err != nil {
			return nil, err
		}
	}
	return out.With(s.opened)
}

// namedAt puts a mistake at the key secrets of the inventory.
func namedAt(inv *schema.Inventory, err error) error {
	var d schema.Diagnostics
	d.Add(inv.Secrets.Pos, "secrets: %v", err)
	return d.Err()
}

// readSealed reads the encrypted file. It may lie open to everybody, but has to
// be encrypted.
func readSealed(inv *schema.Inventory) (*schema.Source, error) {
	name := inv.Secrets.Value
	if name == "" {
		return nil, errors.New("want the name of a file that age has encrypted")
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(inv.Source.Name), name)
	}
	src, err := schema.ReadSource(name)
	switch {
	case err != nil:
		return nil, err
	case len(src.Data) > maxSealed:
		return nil, fmt.Errorf("%s: has %d bytes; a file with secrets may have %d", name, len(src.Data), maxSealed)
	case !isSealed(src.Data):
		sealed := func(name string) string { return strings.TrimSuffix(name, filepath.Ext(name)) + ".age" }
		if sealed(name) == name {
			return nil, fmt.Errorf("%s: is not encrypted with age; rename it, encrypt it to this name (age -e -r RECIPIENT -o %s PLAIN), and remove the plain one", name, name)
		}
		return nil, fmt.Errorf("%s: is not encrypted with age; encrypt it (age -e -r RECIPIENT -o %s %s), name %s here, and remove the plain one", name, sealed(name), name, sealed(inv.Secrets.Value))
	}
	return src, nil
}

// unseal decrypts the file, asking for a passphrase when it needs one and a
// person is there.
func (s *session) unseal(ctx context.Context, sealed *schema.Source, identities []string) ([]byte, error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	k := &keyring{file: sealed.Name, ask: func(what string, nobody error) (string, error) {
		if s.lintOnly {
			return "", fmt.Errorf("lint does not ask for the %s; give it a key without one, or no --age-identity", what)
		}
		return s.prompter().ask(ctx, what, nobody)
	}}
	text, err := k.open(sealed.Data, identities)
	if ctx.Err() != nil {
		return nil, &exitError{code: 130, text: "interrupted"}
	}
	return text, err
}
