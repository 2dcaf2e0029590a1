// Package playbooks holds the playbooks that Certbook ships, and examples of
// overlays and inventories for common sites. They are written to be read.
package playbooks

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"certbook/schema"
)

//go:embed *.yaml examples
var files embed.FS

// Names returns the names of the shipped playbooks, sorted.
func Names() []string {
	entries, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil // the pattern is constant
	}
	for i, e := range entries {
		entries[i] = strings.TrimSuffix(e, ".yaml")
	}
	slices.Sort(entries)
	return entries
}

// Source returns the shipped playbook called name.
func Source(name string) (*schema.Source, error) {
	data, err := files.ReadFile(name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("no shipped playbook %q%s", name, schema.Suggest(name, Names()))
	}
	return &schema.Source{Name: "<" + name + ".yaml>", Data: data}, nil
}

// Examples returns the paths of the example overlays and inventories, sorted.
func Examples() []string {
	list, err := fs.Glob(files, "examples/*/*.yaml")
	if err != nil {
		return nil
	}
	slices.Sort(list)
	return list
}

// Example returns the example document at one of the paths of Examples.
func Example(name string) (*schema.Source, error) {
	data, err := files.ReadFile(path.Clean(name))
	if err != nil {
		return nil, fmt.Errorf("no example %q", name)
	}
	return &schema.Source{Name: name, Data: data}, nil
}
