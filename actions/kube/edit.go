package kube

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"
)

// edit is one change to a mapping of scalars: keys set to values, in order, and
// keys removed.
type edit struct {
	set    []pair
	remove []string
}

type pair struct{ key, value string }

// locate finds, in a freshly parsed document, the mapping that an edit is for.
type locate func(root *yaml.Node) (*yaml.Node, error)

// apply changes one mapping of a document and nothing else. It cuts the new
// text into the old, so that comments, order and layout stay as they are, and
// proves by parsing the result that it says the same as the edited tree. Where
// the text is too unusual for that, the tree itself is written, which keeps
// comments and order but not the layout.
func apply(data []byte, find locate, e edit) ([]byte, error) {
	if _, err := kubeconfigRoot(data); err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, syntaxError(err)
	}
	if docs, err := parseDocs(data, 2); err != nil || len(docs) != 1 || aliased(&doc) {
		return nil, errors.New("kubeconfig: several documents or YAML aliases: cannot be edited safely")
	}
	want := doc.Content[0]
	m, err := find(want)
	if err != nil {
		return nil, err
	}
	e.node(m)
	if out, ok := spliced(data, find, e); ok {
		if got, err := kubeconfigRoot(out); err == nil && equal(got, want) {
			return out, nil
		}
	}
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, syntaxError(err)
	}
	out := buf.Bytes()
	if got, err := kubeconfigRoot(out); err != nil || !equal(got, want) {
		return nil, fmt.Errorf("kubeconfig: line %d: this entry is written in a way that cannot be edited safely", m.Line)
	}
	return out, nil
}

// aliased says whether a document uses YAML aliases: a change of what they
// point at would change more than one entry.
func aliased(n *yaml.Node) bool {
	return n.Kind == yaml.AliasNode || slices.ContainsFunc(n.Content, aliased)
}

// node carries the edit out on the tree.
func (e edit) node(m *yaml.Node) {
	for _, key := range e.remove {
		for i := 0; i+1 < len(m.Content); i += 2 {
			if m.Content[i].Value == key {
				m.Content = append(m.Content[:i:i], m.Content[i+2:]...)
				break
			}
		}
	}
	for _, p := range e.set {
		v := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: p.value}
		if k, old := entry(m, p.key); k != nil {
			v.Style, v.LineComment = old.Style&^(yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle), old.LineComment
			*old = *v
			continue
		}
		if m.Style&yaml.FlowStyle != 0 {
			v.Style = yaml.DoubleQuotedStyle
		}
		k := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: p.key, Style: v.Style}
		m.Content = append(m.Content, k, v)
	}
}

// spliced carries the edit out on the text, one key after the other.
func spliced(data []byte, find locate, e edit) ([]byte, bool) {
	if bytes.ContainsAny(data, "\u0085\u2028\u2029") || bytes.Contains(bytes.ReplaceAll(data, []byte("\r\n"), nil), []byte("\r")) {
		return nil, false // line breaks that only YAML counts
	}
	step := func(change func(s source, m *yaml.Node) ([]byte, bool)) bool {
		root, err := parseYAML(data)
		if err != nil {
			return false
		}
		m, err := find(root)
		if err != nil {
			return false
		}
		out, ok := change(newSource(data), m)
		data = out
		return ok
	}
	for _, p := range slices.Backward(e.set) { // each goes to the front
		if !step(func(s source, m *yaml.Node) ([]byte, bool) { return s.set(m, p) }) {
			return nil, false
		}
	}
	for _, key := range e.remove {
		if !step(func(s source, m *yaml.Node) ([]byte, bool) { return s.remove(m, key) }) {
			return nil, false
		}
	}
	return data, true
}

// equal compares two documents by what they say, in the order of sequences,
// whatever the order of keys, the style or the comments.
func equal(a, b *yaml.Node) bool {
	a, b = deref(a), deref(b)
	if a == nil || b == nil || a.Kind != b.Kind || len(a.Content) != len(b.Content) {
		return a == b
	}
	switch a.Kind {
	case yaml.ScalarNode:
		return a.Value == b.Value && a.ShortTag() == b.ShortTag()
	case yaml.MappingNode:
		for i := 0; i+1 < len(a.Content); i += 2 {
			// Complex keys have no Value of their own to be found by.
			k, v := entry(b, a.Content[i].Value)
			if k == nil || a.Content[i].Kind != yaml.ScalarNode || !equal(a.Content[i+1], v) {
				return false
			}
		}
		return true
	}
	for i := range a.Content {
		if !equal(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}
