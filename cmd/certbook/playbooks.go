package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"certbook/playbooks"
	"certbook/schema"

	"github.com/spf13/cobra"
)

func playbooksCommand(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "playbooks [NAME]",
		Short: "List the shipped playbooks and examples, or print one",
		Example: `  certbook playbooks
  certbook playbooks renew
  certbook playbooks examples/kubespray/overlay.yaml > site.yaml`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completePlaybooks,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listPlaybooks(std)
			}
			src, err := playbooks.Source(args[0])
			if strings.HasPrefix(args[0], "examples/") {
				src, err = playbooks.Example(args[0])
			}
			if err != nil {
				return usageError{err}
			}
			_, err = std.out.Write(src.Data)
			return err
		},
	}
}

func listPlaybooks(std streams) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	for _, name := range playbooks.Names() {
		src, err := playbooks.Source(name)
		if err != nil {
			return err
		}
		p, err := schema.ParsePlaybook(src)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\n", name, p.Description)
	}
	for _, name := range playbooks.Examples() {
		fmt.Fprintf(w, "%s\t\n", name)
	}
	return w.Flush()
}

// completePlaybooks offers the shipped playbooks and files.
func completePlaybooks(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return playbooks.Names(), cobra.ShellCompDirectiveDefault
}
