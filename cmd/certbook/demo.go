package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"

	"certbook/cmd/certbook/sandbox"

	"github.com/spf13/cobra"
)

func demoCommand(std streams) *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Renew a sandbox of three masters on this machine",
		Long: `Makes three masters in a temporary directory, with certificates that are about to
expire and TLS servers on loopback that serve them, and carries out the shipped
renew playbook there: check, plan, run, proof, audit, and a second run. It needs
neither root nor Kubernetes and never asks.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return demo(cmd.Context(), std, keep) },
	}
	cmd.Flags().StringVar(&keep, "keep", "", "make the sandbox in this directory and leave it there, with the runs and their audit logs")
	return cmd
}

// emulateCommand plays the commands that a sandbox lacks.
func emulateCommand(std streams) *cobra.Command {
	return &cobra.Command{
		Use:                "demo-emulate COMMAND [ARG...]",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("demo-emulate: no command")}
			}
			if code := sandbox.Emulate(args[0], args[1:], std.in, std.out, std.err); code != 0 {
				return &exitError{code: code}
			}
			return nil
		},
	}
}

func demo(ctx context.Context, std streams, keep string) (err error) {
	dir := keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "certbook-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	box, err := sandbox.New(dir, program)
	if err != nil {
		return err
	}
	signaled, ignore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer ignore()
	ctx, stop := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- box.Run(ctx, ready) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	select {
	case <-ready:
	case <-signaled.Done():
		return &exitError{code: 130, text: "the demo was interrupted"}
	case runErr := <-ended:
		ended <- nil
		return fmt.Errorf("the sandbox does not start: %w", runErr)
	}
	fmt.Fprintf(std.out, `Three masters, m1 m2 m3, below %s.
Real here: the certificates, the files, the TLS servers on 127.0.0.1, certbook.
Emulated:  kubeadm, kubectl, crictl, systemctl and the kubelet, and whatever else the
           components do. Every component is a process of its own.
`, dir)
	err = story(signaled, std, box, filepath.Join(dir, "runs"))
	var exit *exitError
	if errors.As(err, &exit) && exit.code == 130 && keep == "" {
		exit.text += "; its sandbox is removed, so that there is nothing to resume (--keep DIR leaves it)"
	}
	return err
}

// story runs the commands that a user would, until one ends in another way than
// it should or ctx ends.
func story(ctx context.Context, std streams, box *sandbox.Sandbox, runs string) error {
	before, err := box.Served(ctx)
	if err != nil {
		return err
	}
	inventory := []string{"-i", box.Inventory()}
	steps := []struct {
		title string
		code  int
		args  []string
	}{
		{"The certificates end in nine days; exit code 3 says so.", 3, append([]string{"check"}, inventory...)},
		{"What would be done?", 0, append([]string{"plan"}, inventory...)},
		{"Renew, one master at a time, and prove that the new certificates are served.", 0, append([]string{"run", "renew", "--yes", "--run-dir", runs}, inventory...)},
		{"Everything is good for a year.", 0, append([]string{"check"}, inventory...)},
		{"The log of the run is whole.", 0, []string{"audit", "verify", "--run-dir", runs}},
		{"A second run changes nothing.", 0, append([]string{"run", "renew", "--yes", "--run-dir", runs}, inventory...)},
	}
	for _, s := range steps {
		fmt.Fprintf(std.out, "\n# %s\n$ certbook", s.title)
		for _, a := range s.args {
			fmt.Fprintf(std.out, " %s", a)
		}
		fmt.Fprintln(std.out)
		code := run(s.args, std)
		switch {
		case code == 143:
			return &exitError{code: code}
		case code == 130 || ctx.Err() != nil:
			return &exitError{code: 130, text: "the demo was interrupted"}
		case code != s.code:
			return fmt.Errorf("demo: exit code %d, expected %d", code, s.code)
		}
		if s.args[0] == "run" && before != nil {
			if err := proof(ctx, std, box, before); err != nil {
				return err
			}
			before = nil
		}
	}
	return nil
}

// proof asks every port again, without Certbook, and compares.
func proof(ctx context.Context, std streams, box *sandbox.Sandbox, before []sandbox.Served) error {
	after, err := box.Served(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "\n# What the ports serve, asked without certbook.\n")
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tPORT\tADDRESS\tSERIAL BEFORE\tENDS\tSERIAL NOW\tENDS")
	for i, a := range after {
		b := before[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.Master, a.Port, a.Address, b.Serial, b.Ends, a.Serial, a.Ends)
		if a.Serial == b.Serial {
			err = fmt.Errorf("demo: %s of %s still serves the old certificate", a.Port, a.Master)
		}
	}
	return errors.Join(w.Flush(), err)
}
