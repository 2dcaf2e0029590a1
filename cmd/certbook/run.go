package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"certbook/engine"
	"certbook/engine/audit"
	"certbook/engine/report"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func runCommand(std streams) *cobra.Command {
	s := &session{std: std}
	var output, runDir string
	cmd := &cobra.Command{
		Use:   "run [PLAYBOOK]",
		Short: "Carry out a playbook; the shipped renew when none is named",
		Long: `Carries out a playbook: a shipped one by its name (certbook playbooks), or a
file. On a terminal it first shows the plan and asks; elsewhere it needs --yes.

The first Ctrl-C finishes the present step and stops, the second stops at once.
A run that changes something locks its hosts before its first step and refuses
when another run has one of them ('certbook locks' lists them).

The audit log of the run is RUN-DIR/RUN/audit.jsonl. With --sign-key, signed
checkpoints of it are beside it; see certbook audit verify --help.`,
		Example: `  certbook run --yes
  certbook run renew -i inventory.yaml
  certbook run ./mine.yaml -i inventory.yaml -f site.yaml --set renew_before=60d --limit m1`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completePlaybooks,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.run(cmd.Context(), playbookName(args), output, runDir)
		},
	}
	s.docs.flags(cmd.Flags())
	s.runFlags(cmd.Flags(), &output, &runDir)
	return cmd
}

// runFlags are those of every command that carries out a run.
func (s *session) runFlags(f *pflag.FlagSet, output, runDir *string) {
	s.conn.flags(f)
	s.sign.flags(f)
	f.BoolVar(&s.breakLock, "break-lock", false, "take over the lock that another run has left on a host; never that of a living one")
	f.BoolVarP(&s.yes, "yes", "y", false, "do not ask")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "show every command and every written file")
	f.StringVarP(output, "output", "o", "text", "what to print at the end: text or json")
	f.StringVar(runDir, "run-dir", defaultRunDir(), "directory that holds one directory per run")
}

func playbookName(args []string) string {
	if len(args) == 0 {
		return "renew"
	}
	return args[0]
}

// defaultRunDir is where runs leave their logs.
func defaultRunDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/certbook/runs"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "certbook", "runs")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "certbook", "runs")
	}
	return "certbook-runs"
}

func (s *session) run(ctx context.Context, playbook, output, runDir string) error {
	if err := oneOf("--output", output, "text", "json"); err != nil {
		return err
	}
	if err := s.conn.check(); err != nil {
		return err
	}
	l, err := s.load(ctx, playbook)
	if err != nil {
		return err
	}
	if s.invocation, err = s.docs.invocation(playbook); err != nil {
		return err
	}
	return s.runLoaded(ctx, l, nil, output, runDir)
}

// runLoaded carries out documents, without the hosts that are done in a play.
func (s *session) runLoaded(ctx context.Context, l *loaded, done map[string][]string, output, runDir string) error {
	given := s.own
	s.own = func(run string) bool { return given != nil && given(run) || over(run, runDir) }
	plan, err := l.compile(s.actions(), false)
	if err != nil {
		return err
	}
	if err := s.readSignKey(ctx); err != nil {
		return err
	}
	if !s.yes {
		if err := s.confirmRun(ctx, l, done); err != nil {
			return err
		}
	}
	_, err = s.carryOut(ctx, l, plan.Without(done), output, runDir)
	return err
}

// confirmRun shows the plan and asks whether to carry it out.
func (s *session) confirmRun(ctx context.Context, l *loaded, done map[string][]string) error {
	if !s.terminal() {
		return usageError{errors.New("there is no terminal to ask on; look at the plan with 'certbook plan', then give --yes")}
	}
	plan, err := l.compile(s.actions(), true)
	if err != nil {
		return err
	}
	rep := s.execute(ctx, l, plan.Without(done), func(engine.Event) error { return nil })
	report.Plan(s.std.err, rep, s.style(s.std.err))
	if rep.Err != nil {
		return s.outcome(rep)
	}
	yes, err := s.ask(ctx, "Carry this out?")
	if err != nil {
		return err
	}
	if !yes {
		return &exitError{code: 1, text: "not carried out"}
	}
	return nil
}

// carryOut runs a plan with its audit log and prints the result.
func (s *session) carryOut(ctx context.Context, l *loaded, plan *engine.Plan, output, runDir string) (*engine.Report, error) {
	dir := filepath.Join(runDir, plan.Run.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--run-dir: %w", err)
	}
	logFile := filepath.Join(dir, "audit.jsonl")
	log, err := audit.Create(logFile)
	if err != nil {
		return nil, err
	}
	if s.sign.key != nil {
		log.SignWith(s.sign.key)
	}
	progress := &report.Progress{Style: s.style(s.std.err), W: s.std.err}
	rep := s.execute(ctx, l, plan, func(e engine.Event) error {
		if err := log.Write(e); err != nil {
			return err
		}
		progress.Emit(e)
		return nil
	})
	closeErr := log.Close()
	if output == "json" {
		err = report.JSON(s.std.out, rep)
	} else {
		report.Result(s.std.out, rep, s.style(s.std.out))
	}
	fmt.Fprintf(s.std.err, "audit log: %s\n", logFile)
	copyErr := s.copyCheckpoint(ctx, l, rep, log)
	if outcome := s.outcome(rep); outcome != nil {
		return rep, outcome
	}
	return rep, errors.Join(err, closeErr, copyErr)
}

func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if a == value {
			return nil
		}
	}
	return usageError{fmt.Errorf("%s %s: want one of %v", flag, value, allowed)}
}
