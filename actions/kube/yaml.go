package kube

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"gopkg.in/yaml.v3"
)

// MaxFile is the size in bytes above which no file is parsed.
const MaxFile = 1 << 20

const (
	maxDepth   = 48    // nesting of a YAML document
	maxNodes   = 50000 // nodes of a YAML document
	maxAliases = 16    // aliases in a YAML document; what they point at has none
	maxDocs    = 16    // documents in one file
)

var yamlLine = regexp.MustCompile(`line \d+`)

// parseYAML reads the first document of data. It is nil when there is none.
// The error never quotes the content.
func parseYAML(data []byte) (*yaml.Node, error) {
	docs, err := parseDocs(data, 1)
	if err != nil || len(docs) == 0 {
		return nil, err
	}
	return docs[0], nil
}

// parseDocs reads at most limit documents and returns the root of each.
func parseDocs(data []byte, limit int) ([]*yaml.Node, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("too large: %d bytes, at most %d are read", len(data), MaxFile)
	}
	var docs []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for len(docs) < limit {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, syntaxError(err)
		}
		if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
			continue
		}
		count := bounds{}
		if err := count.check(doc.Content[0], 0, false); err != nil {
			return nil, err
		}
		docs = append(docs, doc.Content[0])
	}
	return docs, nil
}

// syntaxError keeps the place of a YAML error and drops the rest of its text,
// which may quote the document.
func syntaxError(err error) error {
	if at := yamlLine.FindString(err.Error()); at != "" {
		return fmt.Errorf("not valid YAML, %s", at)
	}
	return errors.New("not valid YAML")
}

// bounds counts what makes a document expensive.
type bounds struct{ nodes, aliases int }

func (b *bounds) check(n *yaml.Node, depth int, aliased bool) error {
	b.nodes++
	switch {
	case depth > maxDepth:
		return fmt.Errorf("line %d: nested deeper than %d levels", n.Line, maxDepth)
	case b.nodes > maxNodes:
		return fmt.Errorf("line %d: more than %d values", n.Line, maxNodes)
	case n.Kind == yaml.AliasNode:
		b.aliases++
		if aliased || b.aliases > maxAliases {
			return fmt.Errorf("line %d: too many or nested YAML aliases", n.Line)
		}
		return b.check(n.Alias, depth+1, true)
	}
	for _, c := range n.Content {
		if err := b.check(c, depth+1, aliased); err != nil {
			return err
		}
	}
	return nil
}

// deref follows an alias.
func deref(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// get returns the value at a path of mapping keys, or nil.
func get(n *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		n = deref(n)
		if n == nil || n.Kind != yaml.MappingNode {
			return nil
		}
		_, v := entry(n, key)
		n = v
	}
	return deref(n)
}

// entry returns the key and value nodes of a key in a mapping, or nil.
func entry(m *yaml.Node, key string) (k, v *yaml.Node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Kind == yaml.ScalarNode && m.Content[i].Value == key {
			return m.Content[i], m.Content[i+1]
		}
	}
	return nil, nil
}

// text returns the scalar at a path, "" when there is none.
func text(n *yaml.Node, path ...string) string {
	v := get(n, path...)
	if v == nil || v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
		return ""
	}
	return v.Value
}

// items returns the elements of the sequence at a path.
func items(n *yaml.Node, path ...string) []*yaml.Node {
	v := get(n, path...)
	if v == nil || v.Kind != yaml.SequenceNode {
		return nil
	}
	out := make([]*yaml.Node, len(v.Content))
	for i, c := range v.Content {
		out[i] = deref(c)
	}
	return out
}

// texts returns the scalars of the sequence at a path.
func texts(n *yaml.Node, path ...string) []string {
	var out []string
	for _, c := range items(n, path...) {
		if c != nil && c.Kind == yaml.ScalarNode {
			out = append(out, c.Value)
		}
	}
	return out
}

// repeated returns the first key that a mapping holds twice, "" when none is.
func repeated(m *yaml.Node) string {
	seen := map[string]bool{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if key := m.Content[i].Value; seen[key] {
			return key
		} else {
			seen[key] = true
		}
	}
	return ""
}
