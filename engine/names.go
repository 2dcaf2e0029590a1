package engine

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"certbook/schema"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/types"
)

// nameChecker finds misspelt names, with a suggestion, before expr's own type
// checker words them in Go's terms, and notes what an expression depends on.
type nameChecker struct {
	scope
	text   string
	at     places
	d      *schema.Diagnostics
	e      *expression
	bare   map[string]int // how often a root is used without a name behind it
	hosts  []string       // the hosts whose results are used
	named  int            // how often one variable is taken out of vars
	whole  int            // how often vars is used, of any host
	secret string         // the first secret variable that is used
	failed bool
}

// Visit implements ast.Visitor. Parts are visited before the whole.
func (c *nameChecker) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		c.root(n)
		if n.Value == "vars" {
			c.whole++
		}
	case *ast.MemberNode:
		c.variable(n)
		if path, last := chain(n); path != nil && !c.failed {
			c.note(path)
			c.check(path, last)
		}
	}
}

func (c *nameChecker) root(id *ast.IdentifierNode) {
	if id.Value == "$env" { // would hide what the expression depends on
		c.fail(id, "the name $env is not supported")
		return
	}
	if _, known := c.types[id.Value]; known {
		c.e.roots[id.Value] = true
	}
	if c.bare == nil {
		c.bare = map[string]int{}
	}
	c.bare[id.Value]++
	c.e.remote = c.e.remote || id.Value == "hosts"
}

// variable notes that a member is a variable, or the variables of a host.
func (c *nameChecker) variable(m *ast.MemberNode) {
	name, ok := m.Property.(*ast.StringNode)
	if !ok {
		return
	}
	if name.Value == "vars" {
		c.whole++
	}
	if !isVars(m.Node) {
		return
	}
	c.named++
	if c.scope.secret[name.Value] && c.secret == "" {
		c.secret = "vars." + name.Value
	}
}

// isVars reports whether a node is vars, host.vars or another host's vars.
func isVars(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value == "vars"
	case *ast.ChainNode:
		return isVars(n.Node)
	case *ast.MemberNode:
		name, ok := n.Property.(*ast.StringNode)
		return ok && name.Value == "vars"
	}
	return false
}

// hides returns the secret that the expression's value, of type t, is made of,
// "" for none. Whether something is true or false is no secret.
func (c *nameChecker) hides(t reflect.Type) string {
	switch {
	case t != nil && t.Kind() == reflect.Bool:
		return ""
	case c.secret == "" && c.whole > c.named && (len(c.scope.secret) > 0 || c.locked):
		return "vars"
	}
	return c.secret
}

func (c *nameChecker) fail(at ast.Node, format string, args ...any) {
	c.failed = true
	c.d.Add(c.at(byteIndex(c.text, at.Location().From)), format, args...)
}

func (c *nameChecker) note(path []string) {
	if len(path) == 2 {
		c.bare[path[0]]--
	}
	switch {
	case path[0] == "steps" && !slices.Contains(c.e.steps, path[1]):
		c.e.steps = append(c.e.steps, path[1])
	case path[0] == "vars" && !slices.Contains(c.e.vars, path[1]):
		c.e.vars = append(c.e.vars, path[1])
	case path[0] == "hosts" && !slices.Contains(c.hosts, path[1]):
		c.hosts = append(c.hosts, path[1])
	}
}

// used returns the types of the scope without the steps and hosts that are not
// used: expr takes its time over each type that it is given.
func (c *nameChecker) used() types.Map {
	used := maps.Clone(c.types)
	for root, names := range map[string][]string{"steps": c.e.steps, "hosts": c.hosts} {
		all, ok := used[root].(types.Map)
		if !ok || c.bare[root] > 0 {
			continue
		}
		some := types.Map{}
		for _, name := range slices.Concat(names, []string{types.Extra}) {
			if t, ok := all[name]; ok {
				some[name] = t
			}
		}
		used[root] = some
	}
	return used
}

// check follows path through the environment's types and reports its last name
// when that is not there. (Shorter paths are visited on their own.)
func (c *nameChecker) check(path []string, last ast.Node) {
	var t types.Type = c.types
	for i, name := range path {
		m, ok := t.(types.Map)
		if !ok {
			return
		}
		next, known := m[name]
		if !known {
			if i > 0 && path[i-1] == "vars" && c.locked {
				c.e.beyond = append(c.e.beyond, name)
				c.secret = cmp.Or(c.secret, "vars."+name)
			}
			if _, open := m[types.Extra]; open || i < len(path)-1 {
				return
			}
			if len(path) == 2 && path[0] == "steps" && c.later[name] {
				c.fail(last, "step %q has no result yet: it comes later", name)
				return
			}
			if len(path) == 2 && path[0] == "vars" && c.elsewhere[name] {
				c.fail(last, "no variable %q for host %q", name, c.host)
				return
			}
			c.fail(last, "%s%s", describeMissing(path), suggest(name, m))
			return
		}
		t = next
	}
}

// describeMissing says in the words of the documents that the last name of
// path does not exist.
func describeMissing(path []string) string {
	name := path[len(path)-1]
	switch {
	case len(path) == 2 && path[0] == "steps", len(path) == 4 && path[0] == "hosts" && path[2] == "steps":
		return fmt.Sprintf("no step %q", name)
	case len(path) == 2 && path[0] == "vars":
		return fmt.Sprintf("no variable %q", name)
	case len(path) == 2 && path[0] == "hosts":
		return fmt.Sprintf("no host %q", name)
	case len(path) >= 3 && path[len(path)-3] == "steps":
		return fmt.Sprintf("step %q has no output %q", path[len(path)-2], name)
	}
	return fmt.Sprintf("%s has no field %q", strings.Join(path[:len(path)-1], "."), name)
}

func suggest(name string, m types.Map) string {
	names := slices.Sorted(maps.Keys(m))
	if s := schema.Suggest(name, names); s != "" {
		return s
	}
	if len(names) > 12 || len(names) == 0 {
		return ""
	}
	return " (known: " + strings.Join(names, ", ") + ")"
}

// chain returns a.b.c as its names, outermost first, and the node of the last
// name; nil when a part is computed.
func chain(m *ast.MemberNode) ([]string, ast.Node) {
	property, ok := m.Property.(*ast.StringNode)
	if !ok {
		return nil, nil
	}
	switch base := m.Node.(type) {
	case *ast.IdentifierNode:
		return []string{base.Value, property.Value}, property
	case *ast.MemberNode:
		if path, _ := chain(base); path != nil {
			return append(path, property.Value), property
		}
	case *ast.ChainNode:
		if inner, ok := base.Node.(*ast.MemberNode); ok {
			if path, _ := chain(inner); path != nil {
				return append(path, property.Value), property
			}
		}
	}
	return nil, nil
}
