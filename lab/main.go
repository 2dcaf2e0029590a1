// Command lab runs a real kubeadm cluster on this machine, to try Certbook on.
// Without arguments it says what it can do.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"time"

	"certbook/lab/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

const dir = ".lab"

const usage = `usage: go run ./lab COMMAND

  up [FLAGS]                     make it; nothing to do when it is up
      --masters 1|3  --version V  --external-etcd  --external-ca  --expire DURATION
  reset                          back to what it was after up
  down                           remove it
  expire [DURATION] [HOST...]    certificates with so long to live; -1m, when not given: expired
  restart [HOST...]              restart kubelets and pods, as a power cut does
  fault NAME HOST                switch a fault on; without a name list them
  kubectl ARG...                 by way of the load balancer
  exec HOST COMMAND...           run a command on a master

Its state, logs and keys are in .lab, with an inventory for Certbook.
`

var commands = []string{"up", "reset", "down", "expire", "restart", "fault", "kubectl", "exec"}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "--help"}, args[0]) {
		fmt.Print(usage)
		return nil
	}
	if !slices.Contains(commands, args[0]) {
		return fmt.Errorf("no command %q; there are %q", args[0], commands)
	}
	var opt cluster.Options
	if text, err := os.ReadFile(dir + "/lab.json"); err == nil && args[0] != "up" {
		if err := json.Unmarshal(text, &opt); err != nil {
			return err
		}
	}
	var expire time.Duration
	f := flag.NewFlagSet("lab up", flag.ContinueOnError)
	if args[0] == "up" {
		f.IntVar(&opt.Masters, "masters", 3, "1 or 3")
		f.StringVar(&opt.Version, "version", cluster.Versions()[0], fmt.Sprintf("of Kubernetes, one of %q", cluster.Versions()))
		f.BoolVar(&opt.ExternalEtcd, "external-etcd", false, "etcd on a node of its own")
		f.DurationVar(&expire, "expire", 0, "give the masters' certificates so long to live; -1m: they have ended")
		f.BoolVar(&opt.ExternalCA, "external-ca", false, "no key of a CA on the masters")
		switch err := f.Parse(args[1:]); {
		case errors.Is(err, flag.ErrHelp):
			return nil // it has printed the flags
		case err != nil:
			return err
		}
		args = append(args[:1], f.Args()...)
	}
	if slices.Contains([]string{"up", "reset", "down"}, args[0]) && len(args) > 1 {
		return fmt.Errorf("%s: what is %q? it takes no arguments; nothing was done", args[0], args[1:])
	}
	l, err := cluster.Open(dir, opt, os.Stderr)
	if err != nil {
		return err
	}
	switch args[0] {
	case "up":
		err := l.Up(ctx)
		if err == nil && expire != 0 {
			err = l.Expire(ctx, expire, l.Nodes...)
		}
		return err
	case "down":
		return l.Down(ctx)
	case "reset":
		return l.Reset(ctx)
	}
	if err := l.Connect(ctx); err != nil {
		return err
	}
	switch args[0] {
	case "expire":
		validity := -time.Minute
		if len(args) > 1 {
			if validity, err = time.ParseDuration(args[1]); err != nil {
				return fmt.Errorf("expire: want a duration like 3m or -1m: %w", err)
			}
		}
		nodes, err := l.Select(args[min(2, len(args)):]...)
		if err != nil {
			return err
		}
		return l.Expire(ctx, validity, nodes...)
	case "restart":
		nodes, err := l.Select(args[1:]...)
		if err != nil {
			return err
		}
		return l.RestartAll(ctx, nodes...)
	case "fault":
		if len(args) != 3 {
			return fmt.Errorf("fault: want a name and a host; there are %q", slices.Sorted(maps.Keys(cluster.Faults())))
		}
		nodes, err := l.Select(args[2])
		if err != nil {
			return err
		}
		return l.Fault(ctx, args[1], nodes[0])
	case "kubectl":
		out, err := l.Kubectl(ctx, args[1:]...)
		fmt.Print(out)
		return err
	default: // exec
		if len(args) < 3 {
			return errors.New("exec: want a host and a command")
		}
		nodes, err := l.Select(args[1])
		if err != nil {
			return err
		}
		out, err := l.Run(ctx, nodes[0], args[2:]...)
		fmt.Print(out)
		return err
	}
}
