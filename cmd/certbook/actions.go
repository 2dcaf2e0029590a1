package main

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"certbook/actions"
	"certbook/engine"
	"certbook/schema"

	"github.com/spf13/cobra"
)

func actionsCommand(std streams) *cobra.Command {
	registry := actions.Registry(actions.Context{})
	return &cobra.Command{
		Use:   "actions [NAME]",
		Short: "List the actions, or document one",
		Args:  cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return slices.Sorted(maps.Keys(registry)), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
				for _, name := range slices.Sorted(maps.Keys(registry)) {
					fmt.Fprintf(w, "%s\t%s\n", name, registry[name].Summary)
				}
				return w.Flush()
			}
			spec, ok := registry[args[0]]
			if !ok {
				return usageError{fmt.Errorf("no action %q%s", args[0], schema.Suggest(args[0], slices.Sorted(maps.Keys(registry))))}
			}
			return documentAction(std.out, args[0], spec)
		},
	}
}

// documentAction writes an action's page.
func documentAction(w io.Writer, name string, spec engine.Spec) error {
	fmt.Fprintf(w, "%s - %s\n\n%s\n\nArguments:\n", name, spec.Summary, strings.TrimSpace(spec.Doc))
	action := spec.New()
	for _, f := range schema.Fields(reflect.TypeOf(action).Elem()) {
		var notes []string
		if f.Required {
			notes = append(notes, "required")
		}
		if f.Default != "" {
			notes = append(notes, "default "+f.Default)
		}
		if len(f.Enum) > 0 {
			notes = append(notes, "one of "+strings.Trim(strings.Join(f.Enum, ", "), ", "))
		}
		note := ""
		if len(notes) > 0 {
			note = " (" + strings.Join(notes, "; ") + ")"
		}
		fmt.Fprintf(w, "  %s: %s%s\n      %s\n", f.Name, f.TypeName(), note, f.Doc)
	}
	fmt.Fprintf(w, "\nOutputs, as steps.ID.NAME in expressions:\n  changed, skipped, failed: true or false\n")
	if spec.Outputs != nil {
		documentOutputs(w, reflect.TypeOf(spec.Outputs), "  ")
	}
	fmt.Fprintf(w, "\nReverted by a rollback: %s\n\nExample:\n", rollbackWord(action))
	for line := range strings.Lines(strings.TrimSpace(spec.Example) + "\n") {
		fmt.Fprintf(w, "  %s", line)
	}
	return nil
}

func rollbackWord(a engine.Action) string {
	switch a.(type) {
	case engine.Reverter:
		return "yes"
	case engine.Follower:
		return "done again when what it follows from is brought back"
	case engine.Waiter:
		return "it only waits"
	case engine.Applier:
		return "no"
	}
	return "it changes nothing"
}

func documentOutputs(w io.Writer, t reflect.Type, indent string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("expr")
		if name == "" {
			continue
		}
		fmt.Fprintf(w, "%s%s: %s\n", indent, name, f.Tag.Get("doc"))
		if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
			documentOutputs(w, f.Type.Elem(), indent+"    ")
		}
	}
}
