package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"certbook/engine/audit"

	"github.com/spf13/pflag"
	"golang.org/x/crypto/ssh"
)

// signing are the flags that say how the log of a run is signed.
type signing struct {
	file   string
	copies bool
	key    ssh.Signer // that of file; nil without one
}

func (o *signing) flags(f *pflag.FlagSet) {
	f.StringVar(&o.file, "sign-key", os.Getenv("CERTBOOK_SIGN_KEY"), "ed25519 private key (ssh-keygen -t ed25519) that signs checkpoints of the audit log; $CERTBOOK_SIGN_KEY when not given")
	f.BoolVar(&o.copies, "copy-checkpoint", false, "at the end leave the last checkpoint on every host, in "+checkpointDir)
}

// readSignKey reads the key that --sign-key names, if it names one. A passphrase is
// asked on the terminal.
func (s *session) readSignKey(ctx context.Context) error {
	if s.sign.file == "" {
		if s.sign.copies {
			return usageError{errors.New("--copy-checkpoint: there are checkpoints only with --sign-key")}
		}
		return nil
	}
	ctx, done := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM) // the terminal shows again what is typed
	defer done()
	file := s.sign.file
	key, err := audit.ReadKey(file, func() (string, error) {
		return s.prompter().ask(ctx, "passphrase of "+file, fmt.Errorf("%s has a passphrase, and there is no terminal to ask for it; use a key without one", file))
	})
	if ctx.Err() != nil {
		return &exitError{code: 130, text: "interrupted; nothing was done"}
	}
	if err != nil {
		return usageError{fmt.Errorf("--sign-key: %w", err)}
	}
	s.sign.key = key
	return nil
}
