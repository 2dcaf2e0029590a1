package schema

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxDepth bounds how deep a document's values may be nested.
const maxDepth = 64

// Value is a positioned YAML node: an argument, a variable's value, or any
// part of a document that is decoded later.
type Value struct {
	Node   *yaml.Node
	Source *Source
}

// Pos returns where the value is written.
func (v Value) Pos() Pos {
	if v.Node == nil {
		return Pos{Source: v.Source, Line: 1, Column: 1}
	}
	return Pos{Source: v.Source, Line: v.Node.Line, Column: v.Node.Column}
}

// Secret reports whether the value is written in a secret document.
func (v Value) Secret() bool { return v.Source != nil && v.Source.Secret }

// IsNull reports whether the value is absent or written as null.
func (v Value) IsNull() bool {
	return v.Node == nil || v.Node.Kind == yaml.ScalarNode && v.Node.Tag == "!!null"
}

// lookup returns the value at a path of keys.
func (v Value) lookup(path ...string) (Value, bool) {
	_, found, ok := v.walk(path)
	return found, ok
}

// keyPos returns the place of the last key of a path, or of as much of the
// path as there is.
func (v Value) keyPos(path ...string) Pos {
	key, _, _ := v.walk(path)
	return key.Pos()
}

func (v Value) walk(path []string) (key, value Value, ok bool) {
	key, value = v, v
	for _, name := range path {
		n := value.Node
		at := -1
		if n.Kind == yaml.MappingNode {
			for i := 0; i+1 < len(n.Content) && at < 0; i += 2 {
				if n.Content[i].Value == name {
					at = i
				}
			}
		}
		if at < 0 {
			return key, value, false
		}
		key = Value{Node: n.Content[at], Source: v.Source}
		value = Value{Node: n.Content[at+1], Source: v.Source}
	}
	return key, value, true
}

// Parse reads src as exactly one YAML document whose top is a mapping.
// Anchors, aliases and merge keys are refused: variables do what they do, and
// a document's size is then what it looks like.
func Parse(src *Source, d *Diagnostics) (Value, bool) {
	start := Pos{Source: src, Line: 1, Column: 1}
	if !plausible(src, d) {
		return Value{}, false
	}
	dec := yaml.NewDecoder(bytes.NewReader(src.Data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			d.Add(start, "the document is empty")
			return Value{}, false
		}
		syntaxError(src, err, d)
		return Value{}, false
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		d.Add(Pos{Source: src, Line: max(second.Line, 1), Column: max(second.Column, 1)},
			"a second document begins here; write one document a file")
		return Value{}, false
	} else if !errors.Is(err, io.EOF) {
		syntaxError(src, err, d)
		return Value{}, false
	}
	if len(doc.Content) == 0 {
		d.Add(start, "the document is empty")
		return Value{}, false
	}
	top := Value{Node: doc.Content[0], Source: src}
	if !plain(top, 0, d) {
		return Value{}, false
	}
	if top.Node.Kind != yaml.MappingNode {
		if top.IsNull() {
			d.Add(start, "the document is empty")
		} else {
			d.Add(top.Pos(), "the document is %s; want a mapping that begins with \"version: 1\"", kindName(top.Node))
		}
		return Value{}, false
	}
	return top, true
}

// plausible refuses bytes that are not a text as editors on Linux write it.
func plausible(src *Source, d *Diagnostics) bool {
	data := src.Data
	start := Pos{Source: src, Line: 1, Column: 1}
	at := func(i int) Pos {
		before := data[:i]
		column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
		return Pos{Source: src, Line: 1 + bytes.Count(before, []byte("\n")), Column: column}
	}
	switch {
	case len(data) == 0:
		d.Add(start, "the file is empty")
	case len(data) > MaxDocument:
		d.Add(start, "the document has %d bytes; it may have %d", len(data), MaxDocument)
	case bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")):
		d.Add(start, "the file is UTF-16; save it as UTF-8")
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		d.Add(start, "the file begins with a byte order mark; save it as UTF-8 without one")
	case bytes.IndexByte(data, '\r') >= 0:
		d.Add(at(bytes.IndexByte(data, '\r')), "a carriage return ends this line; save the file with Unix line ends (sed -i 's/\\r$//' FILE)")
	case !utf8.Valid(data):
		for i := 0; i < len(data); {
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n == 1 {
				d.Add(at(i), "the file is not UTF-8 from here on")
				break
			}
			i += n
		}
	case bytes.IndexByte(data, 0) >= 0:
		d.Add(at(bytes.IndexByte(data, 0)), "the file holds a NUL byte; it is not YAML")
	default:
		for _, c := range []string{"\u0085", "\u2028", "\u2029"} { // YAML 1.1 ends a line there, editors do not
			if i := bytes.Index(data, []byte(c)); i >= 0 {
				d.Add(at(i), "the line separator %U is not supported; delete it or use a line end", []rune(c)[0])
				return false
			}
		}
		return true
	}
	return false
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line \d+: )*`)

// syntaxError records what yaml.v3 says, at the place where it stumbled. The
// line in its message is often the one before; so the place is the end of the
// shortest beginning of the document with which it says the same.
func syntaxError(src *Source, err error, d *Diagnostics) {
	said := err.Error()
	n := sort.Search(len(src.Data), func(n int) bool {
		failed := readAll(src.Data[:n])
		return failed != nil && failed.Error() == said
	})
	read := bytes.TrimRight(src.Data[:n], "\n")
	p := Pos{Source: src, Line: 1 + bytes.Count(read, []byte("\n"))}
	line := read[bytes.LastIndexByte(read, '\n')+1:]
	p.Column = max(utf8.RuneCount(line), 1)
	whole := src.Line(p.Line)
	indent := whole[:len(whole)-len(strings.TrimLeft(whole, " \t"))]
	if tab := strings.IndexByte(indent, '\t'); tab >= 0 {
		p.Column = tab + 1
		d.Add(p, "a tab indents this line; use spaces")
		return
	}
	if src.Secret {
		d.Add(p, "not YAML from here on; write a text with special characters in single quotes, a quote in it twice")
		return
	}
	d.Add(p, "not YAML: %s", strings.TrimPrefix(said, yamlLine.FindString(said)))
}

// readAll returns the first syntax error of all documents in data.
func readAll(data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// plain checks that a tree has no anchors, aliases, merge keys or tags of its
// own and is not nested without end.
func plain(v Value, depth int, d *Diagnostics) bool {
	n := v.Node
	if depth > maxDepth {
		d.Add(v.Pos(), "values are nested more than %d deep", maxDepth)
		return false
	}
	before := d.Len()
	switch {
	case n.Kind == yaml.AliasNode:
		d.Add(v.Pos(), "aliases (*%s) are not supported; use a variable", v.Source.shown(n.Value))
	case n.Anchor != "":
		d.Add(v.Pos(), "anchors (&%s) are not supported; use a variable", v.Source.shown(n.Anchor))
	case n.Style&yaml.TaggedStyle != 0 && (n.Tag != "!!str" || n.Kind != yaml.ScalarNode):
		d.Add(v.Pos(), "the tag %s is not supported", v.Source.shown(n.Tag))
	}
	for i, c := range n.Content {
		child := Value{Node: c, Source: v.Source}
		if n.Kind == yaml.MappingNode && i%2 == 0 && c.Tag == "!!merge" {
			d.Add(child.Pos(), "merge keys (<<) are not supported; use a variable or an overlay")
			continue
		}
		plain(child, depth+1, d)
	}
	return d.Len() == before
}

// kindName names what a node is, for people.
func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.Tag {
		case "!!null":
			return "empty"
		case "!!bool":
			return "a boolean"
		case "!!int", "!!float":
			return "a number"
		case "!!timestamp":
			return "a date"
		}
		return "text"
	}
	return "not a value"
}
