package main

import (
	"maps"
	"reflect"
	"slices"

	"certbook/actions"
	"certbook/schema"

	"github.com/spf13/cobra"
)

func schemaCommand(std streams) *cobra.Command {
	kinds := []string{schema.KindPlaybook, schema.KindOverlay, schema.KindInventory, schema.KindSecrets}
	return &cobra.Command{
		Use:   "schema playbook|overlay|inventory|secrets",
		Short: "Print the JSON Schema of a document, for editors",
		Long: `Prints the JSON Schema (draft-07) of a kind of document. In VS Code, Neovim,
Helix and others the first line of a document may name it:

  # yaml-language-server: $schema=./playbook.schema.json`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: kinds,
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := schema.JSONSchema(args[0], actionDocs())
			if err != nil {
				return usageError{err}
			}
			_, err = std.out.Write(data)
			return err
		},
	}
}

// actionDocs describes all actions to the schemas.
func actionDocs() []schema.ActionDoc {
	registry := actions.Registry(actions.Context{})
	var docs []schema.ActionDoc
	for _, name := range slices.Sorted(maps.Keys(registry)) {
		spec := registry[name]
		docs = append(docs, schema.ActionDoc{Name: name, Summary: spec.Summary, Args: reflect.TypeOf(spec.New()).Elem()})
	}
	return docs
}
