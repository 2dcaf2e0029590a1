package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	"certbook/engine"
	"certbook/engine/host"
	"certbook/schema"

	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// connection are the flags that say how hosts are reached.
type connection struct {
	acceptNew    bool
	askSudo      bool
	sudoPassword string
	sshConfig    string
	forks        int
}

func (o *connection) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.acceptNew, "accept-new", false, "trust hosts whose key is not known yet and record it; never one whose key has changed")
	f.BoolVarP(&o.askSudo, "ask-sudo-pass", "K", false, "ask for the sudo password once, on the terminal")
	f.StringVar(&o.sudoPassword, "sudo-password-file", "", "file whose first line is the sudo password")
	f.StringVar(&o.sshConfig, "ssh-config", "", "ssh configuration file; ~/.ssh/config when not given, none for none")
	f.IntVar(&o.forks, "forks", 10, "how many hosts are worked on at once where a play allows it")
}

// check finds flags that cannot be meant.
func (o *connection) check() error {
	if o.forks < 1 {
		return usageError{fmt.Errorf("--forks %d: want 1 or more", o.forks)}
	}
	if o.sudoPassword != "" {
		if _, err := os.ReadFile(o.sudoPassword); err != nil {
			return usageError{fmt.Errorf("--sudo-password-file: %w", err)}
		}
	}
	return nil
}

// dialer connects to the hosts of an inventory.
type dialer struct {
	connection
	inventory *schema.Inventory
	secrets   *prompter
}

// dialer returns the dialer for the hosts of an inventory.
func (s *session) dialer(inv *schema.Inventory) *dialer {
	return &dialer{connection: s.conn, inventory: inv, secrets: s.prompter()}
}

// dial connects to the host called name.
func (d *dialer) dial(ctx context.Context, name string) (engine.Host, error) {
	h, err := d.connect(ctx, name)
	if err != nil {
		return nil, dialError{err, name}
	}
	return h, nil
}

// dialError is why a host cannot be reached, without its name, which the engine
// puts in front, and with what to do about it.
type dialError struct {
	error
	name string
}

func (e dialError) Error() string {
	text := strings.TrimPrefix(e.error.Error(), e.name+": ")
	var timeout net.Error
	switch {
	case errors.Is(e.error, syscall.ECONNREFUSED):
		text += "; nothing listens there: check address and port in the inventory, and that sshd runs"
	case errors.As(e.error, &timeout) && timeout.Timeout():
		text += "; check address and port in the inventory, and firewalls"
	}
	return text
}

func (e dialError) Unwrap() error { return e.error }

func (d *dialer) connect(ctx context.Context, name string) (engine.Host, error) {
	h := d.inventory.Hosts[name]
	s := d.inventory.SSHOf(name)
	if h.Connection == "local" {
		return host.Local(ctx, host.LocalOptions{Root: h.Root})
	}
	opt := host.SSHOptions{
		Name: name, Address: h.Address.Value, Port: s.Port, User: s.User.Value,
		Identity: texts(s.Identity), Jump: texts(s.Jump), KnownHosts: texts(s.KnownHosts),
		AcceptNew: d.acceptNew, ConfigFile: d.sshConfig, Sudo: sudoMode(s.Sudo),
		Passphrase: d.passphrase, SudoPassword: d.sudo,
	}
	if opt.Address == "" {
		opt.Address = name
	}
	if s.ConnectTimeout != nil {
		opt.ConnectTimeout = s.ConnectTimeout.Std()
	}
	if s.KeepAlive != nil {
		opt.KeepAlive = s.KeepAlive.Std()
	}
	if s.CommandTimeout != nil {
		opt.CommandTimeout = s.CommandTimeout.Std()
	}
	return host.Dial(ctx, opt)
}

// passphrase returns that of a key file; it is asked for when the secrets have
// none.
func (d *dialer) passphrase(ctx context.Context, file string) (string, error) {
	home, _ := os.UserHomeDir() // "" when not known
	if phrase, ok := d.inventory.KeyPassphrase(file, home); ok {
		return phrase, nil
	}
	return d.secrets.passphrase(ctx, file)
}

// sudo returns the sudo password of a host. Flags win over the secrets.
func (d *dialer) sudo(ctx context.Context, host string) (string, error) {
	if d.sudoPassword == "" && !d.askSudo {
		if password, ok := d.inventory.SudoPassword(host); ok {
			return password, nil
		}
	}
	return d.secrets.sudo(ctx, host)
}

func texts(list []schema.Text) []string {
	var out []string
	for _, t := range list {
		out = append(out, t.Value)
	}
	return out
}

func sudoMode(s string) host.SudoMode {
	switch s {
	case "always":
		return host.SudoAlways
	case "never":
		return host.SudoNever
	}
	return host.SudoAuto
}

// prompter asks for passwords on the terminal, each once.
type prompter struct {
	connection
	std     streams
	mu      sync.Mutex
	answers map[string]string
}

// prompter returns the one prompter of a session.
func (s *session) prompter() *prompter {
	if s.secrets == nil {
		s.secrets = &prompter{connection: s.conn, std: s.std, answers: map[string]string{}}
	}
	return s.secrets
}

// passphrase asks for the passphrase of a key file.
func (p *prompter) passphrase(ctx context.Context, file string) (string, error) {
	return p.ask(ctx, "passphrase of "+file, fmt.Errorf("key %s has a passphrase, and there is no terminal to ask for it; load it into an ssh-agent", file))
}

// sudo returns the sudo password, one for all hosts.
func (p *prompter) sudo(ctx context.Context, host string) (string, error) {
	switch {
	case p.sudoPassword != "":
		data, err := os.ReadFile(p.sudoPassword)
		if err != nil {
			return "", fmt.Errorf("--sudo-password-file: %w", err)
		}
		line, _, _ := strings.Cut(string(data), "\n")
		return strings.TrimSuffix(line, "\r"), nil
	case p.askSudo:
		return p.ask(ctx, "sudo password", errors.New("--ask-sudo-pass: there is no terminal to ask on; use --sudo-password-file"))
	}
	return "", fmt.Errorf("sudo on %s wants a password; give --ask-sudo-pass or --sudo-password-file, or put it into the secrets of the inventory", host)
}

func (p *prompter) ask(ctx context.Context, what string, noTerminal error) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a, ok := p.answers[what]; ok {
		return a, nil
	}
	if p.std.in == nil || !term.IsTerminal(int(p.std.in.Fd())) {
		return "", noTerminal
	}
	secret, err := p.read(ctx, what)
	if err != nil {
		return "", err
	}
	p.answers[what] = secret
	return secret, nil
}

// read reads a line from the terminal without showing it.
func (p *prompter) read(ctx context.Context, what string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	terminal := int(p.std.in.Fd())
	state, err := term.GetState(terminal)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(p.std.err, "%s: ", what)
	defer fmt.Fprintln(p.std.err)
	typed, failed := make(chan string, 1), make(chan error, 1)
	go func() { // ends with the line, or with the process
		secret, err := term.ReadPassword(terminal)
		if err != nil {
			failed <- err
			return
		}
		typed <- string(secret)
	}()
	select {
	case secret := <-typed:
		return secret, nil
	case err := <-failed:
		return "", err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(terminal, state))
	}
}
