package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"certbook/schema"

	"github.com/spf13/cobra"
)

// streams are the program's standard streams: results go to out, progress and
// errors to err.
type streams struct {
	in       *os.File
	out, err io.Writer

	point func(name string) // called where a run can be cut off; nil but in tests
}

// exitHelp is printed with every command's help.
const exitHelp = `
Exit codes:
  0  as wished
  1  failed, and the hosts are as before (refused, locked by another run, unreachable,
     or rolled back and proven)
  2  wrong usage or an invalid document; nothing was dialled
  3  attention: something is due or stale (check), changes are pending (plan --detailed-exitcode),
     certificates have to be signed elsewhere first (run), a checkpoint was not left on a host
     (run --copy-checkpoint)
  4  urgent: something has expired, is not yet valid, or a process is refused
  5  failed, and a person is needed
  130, 143  interrupted (SIGINT, SIGTERM)
`

// run carries out one command line and returns its exit code.
func run(args []string, std streams) int {
	cmd := rootCommand(std)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	return exitCode(std.err, err)
}

func rootCommand(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "certbook",
		Short: "Renew the certificates of kubeadm control planes",
		Long: `certbook renews the certificates of kubeadm control planes: it carries out a
YAML playbook of typed actions on this machine or, over SSH, on an inventory of
masters, proves that the new certificates are in use, and keeps a tamper-evident
audit log.

  certbook check -i inventory.yaml    how long every certificate lasts
  certbook plan  -i inventory.yaml    what a renewal would do
  certbook run   -i inventory.yaml    renew
`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.SetUsageTemplate(root.UsageTemplate() + exitHelp)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(
		runCommand(std), planCommand(std), checkCommand(std), lintCommand(std),
		actionsCommand(std), playbooksCommand(std), schemaCommand(std),
		runsCommand(std), locksCommand(std), resumeCommand(std), rollbackCommand(std), auditCommand(std), demoCommand(std), emulateCommand(std), versionCommand(std),
	)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" { // else an unknown shell is no mistake
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	return root
}

// usageError is a mistake in the command line or in a document: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError carries an exit code; its text, when it has one, is printed.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// exitCode prints an error and returns the exit code. It is the one place that
// maps outcomes to codes.
func exitCode(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	var exit *exitError
	var usage usageError
	code := 1
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case errors.As(err, &usage), isCobraUsage(err):
		code = 2
	}
	var mistake *schema.Diagnostic
	text, prefix := err.Error(), "certbook: "
	if errors.As(err, &mistake) {
		prefix = "" // every line is file:line:col, which editors jump to
	}
	if text != "" {
		fmt.Fprintf(w, "%s%s\n", prefix, clean(text))
	}
	return code
}

// isCobraUsage recognises cobra's own complaints about arguments.
func isCobraUsage(err error) bool {
	for _, start := range []string{"unknown command", "accepts ", "requires ", "invalid argument"} {
		if strings.HasPrefix(err.Error(), start) {
			return true
		}
	}
	return false
}

// clean takes out of a text that may come from a host what a terminal would act
// on: control characters, except line ends and tabs, and those that turn the
// direction of the text.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// oneLine is clean for a text that must not end a line or a cell of a table.
func oneLine(s string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(clean(s))
}
