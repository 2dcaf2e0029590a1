package engine

import (
	"maps"
	"slices"
	"time"

	"certbook/schema"

	"github.com/expr-lang/expr/types"
)

// Plan is a playbook compiled for an inventory: everything decoded, typed and
// valid, nothing dialled. It is immutable.
type Plan struct {
	Name      string // of the playbook
	Run       RunInfo
	Plays     []PlannedPlay
	Hosts     map[string]PlannedHost // every host of the inventory
	Documents map[string]string      // name to SHA-256 of each document
	Assumed   []string               // variables that are taken to be in the inventory's secrets, which were not opened

	registry Registry
	facts    any
	secrets  *secrets
	finished []string // hosts that an earlier run has finished in some play; it may have left them locked
}

// PlannedHost is one host of the inventory with what is known of it.
type PlannedHost struct {
	Name   string
	Groups []string
	Vars   map[string]any

	address string
	locked  bool // not all of its variables are known
}

// PlannedPlay is a play with its hosts in batches.
type PlannedPlay struct {
	Name      string
	Batches   [][]string // host names
	OnFailure string     // rollback, stop or continue
	Steps     []PlannedStep
	Finally   []PlannedStep
}

// Hosts returns the hosts of all batches.
func (p PlannedPlay) Hosts() []string { return slices.Concat(p.Batches...) }

// PlannedStep is a step with its arguments for each host of its play.
type PlannedStep struct {
	ID      string
	Name    string // a title, or ""
	Action  string
	Off     string // why it is turned off, or ""
	Timeout time.Duration
	Retry   schema.Retry // Attempts is 1 when the step has no retry

	spec  Spec
	pos   schema.Pos
	hosts map[string]*boundStep
}

// boundStep is a step for one host.
type boundStep struct {
	when  *expression // nil is true
	until *expression
	args  map[string]schema.Value // as written, defaults added
	exprs map[string]*expression  // those in args, by their text
}

// HostNames returns the hosts that any play works on, sorted.
func (p *Plan) HostNames() []string {
	set := map[string]bool{}
	for _, play := range p.Plays {
		for _, h := range play.Hosts() {
			set[h] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Without returns the plan without these hosts in these plays: those that an
// earlier run has finished.
func (p *Plan) Without(done map[string][]string) *Plan {
	out := *p
	out.Plays, out.finished = slices.Clone(p.Plays), nil
	for i, play := range out.Plays {
		out.Plays[i].Batches = nil
		out.finished = append(out.finished, done[play.Name]...)
		for _, batch := range play.Batches {
			left := slices.DeleteFunc(slices.Clone(batch), func(h string) bool { return slices.Contains(done[play.Name], h) })
			if len(left) > 0 {
				out.Plays[i].Batches = append(out.Plays[i].Batches, left)
			}
		}
	}
	slices.Sort(out.finished)
	out.finished = slices.Compact(out.finished)
	return &out
}

// hostValues returns a host as expressions see it.
func (h PlannedHost) hostValues() map[string]any {
	groups := make([]any, len(h.Groups))
	for i, g := range h.Groups {
		groups[i] = g
	}
	return map[string]any{"name": h.Name, "addr": h.address, "groups": groups, "vars": h.Vars}
}

func (h PlannedHost) hostTypes() types.Map {
	return types.Map{"name": types.String, "addr": types.String, "groups": types.Array(types.String), "vars": h.varTypes()}
}

// varTypes returns the types of the host's variables. More may exist when the
// inventory's secrets were not opened.
func (h PlannedHost) varTypes() types.Map {
	m := typesOfValues(h.Vars)
	if h.locked {
		m[types.Extra] = types.Any
	}
	return m
}
