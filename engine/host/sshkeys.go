package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// ErrAuth says that a server accepts none of our keys.
var ErrAuth = errors.New("not authenticated")

type authError string

func (e authError) Error() string        { return string(e) }
func (e authError) Is(target error) bool { return target == ErrAuth }

// keyring is what a hop is offered, in order: key files, then the agent.
type keyring struct {
	list  []ssh.Signer
	tried []string // for the message when none is accepted
	agent net.Conn
	err   error // why a key that was accepted could not be used
}

// keyring collects the keys for a hop. aside runs a question to a person
// without a clock ticking.
func (p *hop) keyring(ctx context.Context, opt SSHOptions, aside func(func())) (*keyring, error) {
	k := &keyring{}
	held := k.askAgent(opt)
	files, must := p.identity, p.explicit
	for _, name := range files {
		s, err := k.file(ctx, name, opt, aside, held)
		switch {
		case err == nil:
			k.list = append(k.list, s)
			k.tried = append(k.tried, name+" ("+ssh.FingerprintSHA256(s.PublicKey())+")")
		case must:
			k.close()
			return nil, err
		case !errors.Is(err, os.ErrNotExist):
			k.tried = append(k.tried, name+" (not usable: "+err.Error()+")")
		}
	}
	if p.identitiesOnly {
		return k, nil
	}
	for _, s := range held {
		if !contains(k.list, s) {
			k.list = append(k.list, s)
			k.tried = append(k.tried, "agent ("+ssh.FingerprintSHA256(s.PublicKey())+")")
		}
	}
	return k, nil
}

func contains(list []ssh.Signer, s ssh.Signer) bool {
	for _, x := range list {
		if string(x.PublicKey().Marshal()) == string(s.PublicKey().Marshal()) {
			return true
		}
	}
	return false
}

// askAgent returns the agent's keys. An agent that cannot be asked has none.
func (k *keyring) askAgent(opt SSHOptions) []ssh.Signer {
	sock := opt.Agent
	if sock == "" {
		sock = os.Getenv("SSH_AUTH_SOCK")
	}
	if opt.NoAgent || sock == "" {
		return nil
	}
	conn, err := net.Dial("unix", sock)
	if err != nil {
		k.tried = append(k.tried, "agent (not reachable at "+sock+")")
		return nil
	}
	k.agent = conn
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		k.tried = append(k.tried, "agent ("+err.Error()+")")
	}
	return signers
}

func (k *keyring) close() {
	if k.agent != nil {
		k.agent.Close()
	}
}

func (k *keyring) signers() ([]ssh.Signer, error) { return k.list, nil }

// file reads a key file. One with a passphrase is used by way of the agent
// when that holds the key; else the passphrase is asked when the key is needed.
func (k *keyring) file(ctx context.Context, name string, opt SSHOptions, aside func(func()), held []ssh.Signer) (ssh.Signer, error) {
	data, err := readSmall(name)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	s, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if err == nil {
		return s, nil
	}
	if !errors.As(err, &locked) {
		return nil, fmt.Errorf("key file %s: %w", name, err)
	}
	pub := locked.PublicKey
	if pub == nil {
		if pub, err = publicFile(name + ".pub"); err != nil {
			return nil, fmt.Errorf("key file %s is encrypted in an old format, and has no %s.pub beside it; convert it with ssh-keygen -p -o -f %s", name, name, name)
		}
	}
	for _, s := range held {
		if string(s.PublicKey().Marshal()) == string(pub.Marshal()) {
			return s, nil
		}
	}
	return &lockedKey{pub: pub, unlock: sync.OnceValues(func() (ssh.Signer, error) {
		s, err := unlock(ctx, name, data, opt, aside)
		if err != nil {
			k.err = err
		}
		return s, err
	})}, nil
}

func publicFile(name string) (ssh.PublicKey, error) {
	data, err := readSmall(name)
	if err != nil {
		return nil, err
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(data)
	return pub, err
}

func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

func unlock(ctx context.Context, name string, data []byte, opt SSHOptions, aside func(func())) (ssh.Signer, error) {
	if opt.Passphrase == nil {
		return nil, authError(fmt.Sprintf("key file %s has a passphrase; load it into the agent with ssh-add", name))
	}
	var phrase string
	var err error
	aside(func() { phrase, err = opt.Passphrase(ctx, name) })
	if err != nil {
		return nil, fmt.Errorf("passphrase of %s: %w", name, err)
	}
	s, err := ssh.ParsePrivateKeyWithPassphrase(data, []byte(phrase))
	if err != nil {
		return nil, authError(fmt.Sprintf("key file %s: the passphrase is wrong", name))
	}
	return s, nil
}

// lockedKey is a key whose passphrase is asked when the server wants a signature.
type lockedKey struct {
	pub    ssh.PublicKey
	unlock func() (ssh.Signer, error)
}

func (l *lockedKey) PublicKey() ssh.PublicKey { return l.pub }

func (l *lockedKey) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return l.SignWithAlgorithm(rand, data, "")
}

// SignWithAlgorithm lets RSA keys sign with SHA-2.
func (l *lockedKey) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	s, err := l.unlock()
	if err != nil {
		return nil, err
	}
	if a, ok := s.(ssh.AlgorithmSigner); ok && algorithm != "" {
		return a.SignWithAlgorithm(rand, data, algorithm)
	}
	return s.Sign(rand, data)
}

// refused says what was tried when the server accepts nothing.
func (k *keyring) refused(p *hop, err error) error {
	if len(k.list) == 0 {
		text := fmt.Sprintf("user %s: there is no key to log in with; give --identity, load one into the agent, or set IdentityFile", p.user)
		if len(k.tried) > 0 {
			text += "; tried: " + strings.Join(k.tried, ", ")
		}
		return authError(text)
	}
	return authError(fmt.Sprintf("%s does not let user %s log in with any of these keys: %s; add one to authorized_keys there (%v)",
		p.address(), p.user, strings.Join(k.tried, ", "), err))
}
