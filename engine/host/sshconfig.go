package host

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kevinburke/ssh_config"
)

// maxHops bounds chains of jump hosts, also those that go round.
const maxHops = 8

// hop is one SSH server on the way to a machine, the machine itself included.
type hop struct {
	host           string
	port           int
	user           string
	identity       []string
	explicit       bool // the identities were asked for and must exist
	identitiesOnly bool
	knownHosts     []string
	acceptNew      bool
	keyAlias       string
	jump           []string
}

func (p *hop) address() string { return net.JoinHostPort(p.host, strconv.Itoa(p.port)) }

// resolver turns names into hops by the ssh configuration file.
type resolver struct {
	conf *ssh_config.Config
	file string
	home string
	user string
	opt  SSHOptions
}

// route returns the hops to the machine, the machine last.
func route(opt SSHOptions) ([]*hop, error) {
	name := opt.Address
	if name == "" {
		name = opt.Name
	}
	if name == "" {
		return nil, errors.New("ssh: a host without name and address")
	}
	r, err := newResolver(opt)
	if err != nil {
		return nil, err
	}
	target, err := r.hop(name, true)
	if err != nil {
		return nil, err
	}
	return r.before(target, 0)
}

func newResolver(opt SSHOptions) (*resolver, error) {
	r := &resolver{opt: opt, file: opt.ConfigFile, conf: &ssh_config.Config{}}
	var err error
	if r.home, err = os.UserHomeDir(); err != nil {
		return nil, fmt.Errorf("ssh: %w", err)
	}
	if u, err := user.Current(); err == nil {
		r.user = u.Username
	} else {
		r.user = os.Getenv("USER")
	}
	if r.file == "none" {
		return r, nil
	}
	if r.file == "" {
		r.file = filepath.Join(r.home, ".ssh", "config")
	}
	data, err := readSmall(r.file)
	if errors.Is(err, os.ErrNotExist) && opt.ConfigFile == "" {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ssh configuration: %w", err)
	}
	if r.conf, err = ssh_config.DecodeBytes(data); err != nil {
		text := strings.TrimPrefix(err.Error(), "ssh_config: ")
		return nil, fmt.Errorf("ssh configuration %s: %s; Match is understood with host and all alone, so write it as Host, or ignore the file with --ssh-config none", r.file, text)
	}
	return r, nil
}

// before returns the hops that lead to p, and p.
func (r *resolver) before(p *hop, depth int) ([]*hop, error) {
	if depth > maxHops {
		return nil, fmt.Errorf("more than %d jump hosts to %s; does ProxyJump go round in circles?", maxHops, p.host)
	}
	var way []*hop
	for i, spec := range p.jump {
		j, err := r.jump(spec)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			j.jump = nil // the one before it is the way to it
		}
		part, err := r.before(j, depth+1)
		if err != nil {
			return nil, err
		}
		way = append(way, part...)
	}
	if way = append(way, p); len(way) > maxHops+1 {
		return nil, fmt.Errorf("more than %d jump hosts to %s", maxHops, p.host)
	}
	return way, nil
}

// jump reads [ssh://][user@]host[:port].
func (r *resolver) jump(spec string) (*hop, error) {
	s := strings.TrimSuffix(strings.TrimPrefix(spec, "ssh://"), "/")
	login, rest := "", s
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		login, rest = s[:i], s[i+1:]
	}
	name, port := strings.Trim(rest, "[]"), ""
	if h, p, err := net.SplitHostPort(rest); err == nil {
		name, port = h, p
	}
	if name == "" || strings.ContainsAny(name, " \t/") {
		return nil, fmt.Errorf("jump host %q is not [user@]host[:port]", spec)
	}
	p, err := r.hop(name, false)
	if err != nil {
		return nil, err
	}
	if login != "" {
		p.user = login
	}
	if port != "" {
		if p.port, err = portNumber(port); err != nil {
			return nil, fmt.Errorf("jump host %q: %w", spec, err)
		}
	}
	return p, nil
}

func portNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return n, nil
}

// hop resolves one name. The options of the target win over the file; a jump
// host shares with the target what says whom to trust and which keys to use.
func (r *resolver) hop(name string, target bool) (*hop, error) {
	p := &hop{host: name, port: 22, user: r.user, acceptNew: r.opt.AcceptNew}
	get := func(key string) string { v, _ := r.conf.Get(name, key); return v }
	if v := get("ProxyCommand"); v != "" && v != "none" && (!target || len(r.opt.Jump) == 0) {
		return nil, fmt.Errorf("ssh configuration %s: %s has a ProxyCommand, which is not run; use ProxyJump, or ignore the file with --ssh-config none", r.file, name)
	}
	if v := get("User"); v != "" {
		p.user = v
	}
	if v := get("Port"); v != "" {
		n, err := portNumber(v)
		if err != nil {
			return nil, fmt.Errorf("ssh configuration %s: host %s: %w", r.file, name, err)
		}
		p.port = n
	}
	if target && r.opt.User != "" {
		p.user = r.opt.User
	}
	if target && r.opt.Port != 0 {
		p.port = r.opt.Port
	}
	if v := get("HostName"); v != "" {
		p.host = strings.NewReplacer("%%", "%", "%h", name).Replace(v)
	}
	p.keyAlias = get("HostKeyAlias")
	p.identitiesOnly = strings.EqualFold(get("IdentitiesOnly"), "yes")
	if v := get("ProxyJump"); v != "" && v != "none" {
		p.jump = strings.Split(strings.ReplaceAll(v, " ", ""), ",")
	}
	if target && len(r.opt.Jump) > 0 {
		p.jump = r.opt.Jump
		if len(p.jump) == 1 && p.jump[0] == "none" {
			p.jump = nil
		}
	}
	r.identities(p, name)
	r.known(p, get)
	return p, nil
}

// identities sets the key files.
func (r *resolver) identities(p *hop, name string) {
	for _, f := range r.opt.Identity {
		p.identity = append(p.identity, r.expand(f, p, name))
	}
	p.explicit = len(p.identity) > 0
	if p.explicit {
		return
	}
	files, _ := r.conf.GetAll(name, "IdentityFile")
	for _, f := range files {
		if f != "none" {
			p.identity = append(p.identity, r.expand(f, p, name))
		}
	}
	if len(files) == 0 {
		for _, f := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			p.identity = append(p.identity, filepath.Join(r.home, ".ssh", f))
		}
	}
}

// known sets where host keys are recorded, and how strictly.
func (r *resolver) known(p *hop, get func(string) string) {
	for _, f := range r.opt.KnownHosts {
		p.knownHosts = append(p.knownHosts, r.expand(f, p, p.host))
	}
	if len(p.knownHosts) == 0 {
		for _, f := range strings.Fields(get("UserKnownHostsFile")) {
			if f != "none" {
				p.knownHosts = append(p.knownHosts, r.expand(f, p, p.host))
			}
		}
		if len(p.knownHosts) == 0 {
			p.knownHosts = []string{filepath.Join(r.home, ".ssh", "known_hosts")}
		}
		p.knownHosts = append(p.knownHosts, "/etc/ssh/ssh_known_hosts")
	}
	switch strings.ToLower(get("StrictHostKeyChecking")) {
	case "accept-new", "no", "off": // a changed key is refused all the same
		p.acceptNew = true
	}
}

// expand replaces ~ and the tokens that make sense in the name of a file.
func (r *resolver) expand(name string, p *hop, alias string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		name = filepath.Join(r.home, rest)
	}
	return strings.NewReplacer("%%", "%", "%d", r.home, "%h", p.host, "%n", alias,
		"%r", p.user, "%u", r.user, "%p", strconv.Itoa(p.port)).Replace(name)
}
