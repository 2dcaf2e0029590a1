package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"certbook/actions"
	"certbook/engine"
	"certbook/playbooks"
	"certbook/schema"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"
)

// documents are the flags that name what to run on which hosts.
type documents struct {
	inventory string
	overlays  []string
	set       []string
	limit     string
	root      string

	identities []string
}

func (o *documents) flags(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.overlays, "overlay", "f", nil, "overlay file; may be repeated, the last wins")
	f.StringArrayVar(&o.set, "set", nil, "set a variable, NAME=VALUE (YAML); may be repeated")
	o.hostFlags(f)
}

// hostFlags are those that say which hosts.
func (o *documents) hostFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.inventory, "inventory", "i", "", "inventory file; without one this machine is the only host")
	f.StringVarP(&o.limit, "limit", "l", "", "work only on these hosts or groups: NAME[,NAME...], !NAME leaves out")
	f.StringArrayVar(&o.identities, "age-identity", nil, "file with a key that opens the inventory's secrets, from age-keygen or an SSH private key; may be repeated; CERTBOOK_AGE_IDENTITY when not given")
	f.StringVar(&o.root, "root", "/", "root directory of this machine when there is no inventory, for tests and sandboxes")
}

// invocation is what is written down of a run's flags, so that it can be
// resumed from anywhere on this machine.
func (o *documents) invocation(playbook string) (*engine.Invocation, error) {
	in := &engine.Invocation{Playbook: playbook, Set: o.set, Limit: o.limit}
	if o.root != "/" {
		in.Root = o.root
	}
	var errs []error
	absolute := func(name string) string {
		if name == "" {
			return ""
		}
		full, err := filepath.Abs(name)
		errs = append(errs, err)
		return full
	}
	if strings.ContainsAny(playbook, "/.") {
		in.Playbook = absolute(playbook)
	}
	in.Inventory, in.Root = absolute(o.inventory), absolute(in.Root)
	for _, name := range o.overlays {
		in.Overlays = append(in.Overlays, absolute(name))
	}
	return in, errors.Join(errs...)
}

// loaded are the parsed documents.
type loaded struct {
	playbook  *schema.Playbook
	overlays  []*schema.Overlay
	inventory *schema.Inventory
	set       map[string]schema.Value
	limit     schema.Hosts
}

// identityFiles returns the files with keys that open secrets.
func (o *documents) identityFiles() []string {
	if len(o.identities) > 0 {
		return o.identities
	}
	return filepath.SplitList(os.Getenv("CERTBOOK_AGE_IDENTITY"))
}

// opener puts its secrets into an inventory.
type opener func(*schema.Inventory) (*schema.Inventory, error)

// load reads all documents and returns the mistakes of all of them together,
// also those that only show when the steps are compiled, if the playbook can
// be understood so far.
func (o *documents) load(playbook string, ctx actions.Context, open opener) (*loaded, error) {
	var out loaded
	var errs *multierror.Error
	add := func(err error) {
		if err != nil {
			errs = multierror.Append(errs, err)
		}
	}
	var err error
	var broken error
	out.playbook, broken = loadPlaybook(playbook)
	for _, name := range o.overlays {
		overlay, err := loadOverlay(name)
		add(err)
		out.overlays = append(out.overlays, overlay)
	}
	out.inventory, err = o.loadInventory()
	if err == nil {
		out.inventory, err = open(out.inventory)
	}
	add(err)
	out.set, err = parseSet(o.set)
	add(err)
	out.limit = parseLimit(o.limit)
	if broken != nil {
		if out.playbook != nil && errs == nil {
			_, err := out.compile(ctx, true)
			add(err)
		}
		errs = multierror.Append(&multierror.Error{Errors: []error{broken}}, errs.WrappedErrors()...)
	}
	if errs != nil {
		errs.ErrorFormat = lines
		return nil, usageError{errs}
	}
	return &out, nil
}

func lines(errs []error) string {
	texts := make([]string, len(errs))
	for i, e := range errs {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n")
}

// loadPlaybook reads a shipped playbook by its name, or a file.
func loadPlaybook(name string) (*schema.Playbook, error) {
	isPath := strings.ContainsAny(name, "/.")
	if !isPath {
		src, err := playbooks.Source(name)
		if err == nil {
			return schema.ParsePlaybook(src)
		}
		if _, statErr := os.Stat(name); statErr != nil {
			return nil, fmt.Errorf("%w; a file of your own needs a path, as in ./%s.yaml", err, name)
		}
	}
	src, err := schema.ReadSource(name)
	if err != nil {
		return nil, err
	}
	return schema.ParsePlaybook(src)
}

func loadOverlay(name string) (*schema.Overlay, error) {
	src, err := schema.ReadSource(name)
	if err != nil {
		return nil, err
	}
	return schema.ParseOverlay(src)
}

func (o *documents) loadInventory() (*schema.Inventory, error) {
	if o.inventory == "" {
		if o.root != "/" && o.root != "" {
			if info, err := os.Stat(o.root); err != nil || !info.IsDir() {
				return nil, fmt.Errorf("--root %s: is not a directory", o.root)
			}
		}
		return schema.LocalInventory(o.root), nil
	}
	if o.root != "/" {
		return nil, errors.New("--root is for runs without an inventory; give the host a root there")
	}
	src, err := schema.ReadSource(o.inventory)
	if err != nil {
		return nil, err
	}
	return schema.ParseInventory(src)
}

// parseSet reads --set flags; each value is a YAML value.
func parseSet(flags []string) (map[string]schema.Value, error) {
	set := map[string]schema.Value{}
	for _, f := range flags {
		name, text, ok := strings.Cut(f, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--set %s: want NAME=VALUE", f)
		}
		src := &schema.Source{Name: "--set " + name, Data: []byte(text), Flag: true}
		var doc yaml.Node
		if err := yaml.Unmarshal(src.Data, &doc); err != nil || len(doc.Content) != 1 || doc.Content[0].Kind == yaml.AliasNode {
			// Not YAML, or nothing: it is text.
			doc.Content = []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: 1, Column: 1}}
		}
		set[name] = schema.Value{Node: doc.Content[0], Source: src}
	}
	return set, nil
}

func parseLimit(s string) schema.Hosts {
	if s == "" {
		return nil
	}
	var hosts schema.Hosts
	src := &schema.Source{Name: "--limit", Data: []byte(s), Flag: true}
	at := 1
	for name := range strings.SplitSeq(s, ",") {
		hosts = append(hosts, schema.Text{Value: strings.TrimSpace(name), Pos: schema.Pos{Source: src, Line: 1, Column: at}})
		at += len(name) + 1
	}
	return hosts
}

// compile turns the documents into a plan.
func (l *loaded) compile(ctx actions.Context, plan bool) (*engine.Plan, error) {
	now := time.Now().UTC()
	compiled, err := engine.Compiler{
		Registry: actions.Registry(ctx), Playbook: l.playbook, Overlays: l.overlays, Inventory: l.inventory,
		Set: l.set, Limit: l.limit, Run: engine.RunInfo{ID: newRunID(now), Started: now, Plan: plan},
	}.Compile()
	if err != nil {
		return nil, usageError{err}
	}
	return compiled, nil
}

// newRunID returns an identifier that sorts by time and is safe as a file name:
// after the second come five digits for the microsecond, and a random one.
func newRunID(now time.Time) string {
	var random [1]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return now.Format("20060102T150405Z") + fmt.Sprintf("-%05x%x", now.Nanosecond()/1000, random[0]&0xf)
}
