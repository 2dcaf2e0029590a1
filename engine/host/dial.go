package host

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// SSHOptions describe a machine behind SSH. What is not set is taken from the
// ssh configuration file, then from the defaults of OpenSSH.
type SSHOptions struct {
	Name    string // how messages call the host; also its name when Address is ""
	Address string // host name or IP address, without a port; looked up as Host in the configuration file
	Port    int    // 22
	User    string // the local user's name

	Identity []string // private key files; each must exist
	NoAgent  bool     // do not ask the agent
	Agent    string   // its socket; SSH_AUTH_SOCK when ""
	// Passphrase is asked for the passphrase of a key file, when the server
	// would accept the key. It may be called for several hosts at once and
	// should remember its answers. May be nil.
	Passphrase func(ctx context.Context, keyFile string) (string, error)

	Jump       []string // [user@]host[:port] of jump hosts, in the order of the way; "none" overrides the configuration file
	KnownHosts []string // files of known host keys; ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts
	AcceptNew  bool     // a host without a recorded key is trusted and recorded in the first of KnownHosts
	ConfigFile string   // ~/.ssh/config; "none" reads none

	Sudo         SudoMode                                               // whether commands and files go through sudo
	SudoPassword func(ctx context.Context, host string) (string, error) // asked once, when sudo wants one; may be nil

	ConnectTimeout time.Duration // of each hop; 15 s
	KeepAlive      time.Duration // between signs of life, of which 3 may be missed; 15 s, negative for none
	CommandTimeout time.Duration // ends a command that runs longer; 0 does not
}

// Dial connects to a machine over SSH, verifies its host key and finds out how
// to become root there, when opt wants it. Errors begin with the host's name;
// see ErrHostKeyUnknown and its siblings, ErrAuth and ErrSudo.
func Dial(ctx context.Context, opt SSHOptions) (*Host, error) {
	if opt.Name == "" {
		opt.Name = opt.Address
	}
	h, err := dial(ctx, opt)
	if err != nil && !strings.HasPrefix(err.Error(), opt.Name+": ") {
		err = fmt.Errorf("%s: %w", opt.Name, err)
	}
	return h, err
}

func dial(ctx context.Context, opt SSHOptions) (*Host, error) {
	way, err := route(opt)
	if err != nil {
		return nil, err
	}
	if opt.ConnectTimeout <= 0 {
		opt.ConnectTimeout = 15 * time.Second
	}
	if opt.KeepAlive == 0 {
		opt.KeepAlive = 15 * time.Second
	}
	var clients []*ssh.Client
	for i, hop := range way {
		var via *ssh.Client
		if i > 0 {
			via = clients[i-1]
		}
		c, err := hop.connect(ctx, via, opt)
		if err != nil {
			for _, c := range clients {
				c.Close()
			}
			if i < len(way)-1 {
				err = fmt.Errorf("jump host %s: %w", hop.address(), err)
			}
			return nil, err
		}
		clients = append(clients, c)
	}
	r := newRemote(clients, opt.KeepAlive)
	h := &Host{name: opt.Name, user: way[len(way)-1].user, t: r, timeout: opt.CommandTimeout}
	r.spare = h.shells.spare
	if err := h.becomeRoot(ctx, opt); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// becomeRoot decides about sudo.
func (h *Host) becomeRoot(ctx context.Context, opt SSHOptions) error {
	switch opt.Sudo {
	case SudoNever:
		return nil
	case SudoAuto:
		out, err := h.script(ctx, "id -u", nil, 1<<10)
		if err != nil {
			return fmt.Errorf("first command: %w", err)
		}
		if strings.TrimSpace(string(out)) == "0" {
			return nil
		}
	case SudoAlways:
	default:
		return fmt.Errorf("unknown sudo mode %q", opt.Sudo)
	}
	s, err := probeSudo(ctx, h, opt.SudoPassword)
	h.sudo = s
	return err
}

// connect opens the SSH connection of one hop, through the one before it.
func (p *hop) connect(ctx context.Context, via *ssh.Client, opt SSHOptions) (*ssh.Client, error) {
	dialCtx, cancel := context.WithTimeoutCause(ctx, opt.ConnectTimeout,
		fmt.Errorf("no connection to %s within %v", p.address(), opt.ConnectTimeout))
	defer cancel()
	var conn net.Conn
	var err error
	if via == nil {
		conn, err = new(net.Dialer).DialContext(dialCtx, "tcp", p.address())
	} else {
		conn, err = via.DialContext(dialCtx, "tcp", p.address())
	}
	if err != nil {
		if dialCtx.Err() != nil {
			err = context.Cause(dialCtx)
		}
		return nil, err
	}
	return p.handshake(ctx, conn, opt)
}

// handshake authenticates both sides. The time during which a person is asked
// for a passphrase does not count.
func (p *hop) handshake(ctx context.Context, conn net.Conn, opt SSHOptions) (*ssh.Client, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	clock := time.AfterFunc(opt.ConnectTimeout, func() {
		cancel(fmt.Errorf("%s answers, but SSH is not ready within %v", p.address(), opt.ConnectTimeout))
	})
	defer clock.Stop()
	keys, err := p.keyring(ctx, opt, func(ask func()) {
		clock.Stop()
		ask()
		clock.Reset(opt.ConnectTimeout)
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer keys.close()
	trust, err := p.trust()
	if err != nil {
		conn.Close()
		return nil, err
	}
	c, channels, requests, err := ssh.NewClientConn(conn, p.address(), &ssh.ClientConfig{
		User:              p.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeysCallback(keys.signers)},
		HostKeyCallback:   trust.check,
		HostKeyAlgorithms: trust.algorithms(),
		ClientVersion:     "SSH-2.0-certbook",
	})
	if err == nil {
		return ssh.NewClient(c, channels, requests), nil
	}
	conn.Close()
	switch {
	case trust.err != nil:
		return nil, trust.err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case keys.err != nil:
		return nil, keys.err
	case strings.Contains(err.Error(), "unable to authenticate"):
		return nil, keys.refused(p, err)
	case strings.Contains(err.Error(), "no common algorithm for host key"):
		return nil, trust.otherType(err)
	}
	return nil, err
}
