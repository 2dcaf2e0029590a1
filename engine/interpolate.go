package engine

import (
	"fmt"
	"strconv"
	"strings"

	"certbook/schema"

	"gopkg.in/yaml.v3"
)

// piece is a part of a text with ${...}: literal text or an expression.
type piece struct {
	literal string
	code    string // the expression between the braces
	at      int    // where code begins, in bytes from the start of the text
	isCode  bool
}

// split cuts a text at its ${...}. $${ stands for a literal ${. It returns
// where a ${ begins that does not end, or -1.
func split(text string) (pieces []piece, open int) {
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			pieces = append(pieces, piece{literal: literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(text); {
		switch {
		case strings.HasPrefix(text[i:], "$${"):
			literal.WriteString("${")
			i += 3
		case strings.HasPrefix(text[i:], "${"):
			n := closing(text[i+2:])
			if n < 0 {
				return nil, i
			}
			flush()
			pieces = append(pieces, piece{code: text[i+2 : i+2+n], at: i + 2, isCode: true})
			i += 2 + n + 1
		default:
			literal.WriteByte(text[i])
			i++
		}
	}
	flush()
	return pieces, -1
}

// closing returns the index of the brace that ends an expression, which may
// itself hold braces and quoted texts; -1 when there is none.
func closing(s string) int {
	depth := 0
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && c == '\\' && quote != '`':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"' || c == '`':
			quote = c
		case c == '{':
			depth++
		case c == '}':
			if depth == 0 {
				return i
			}
			depth--
		}
	}
	return -1
}

// hasCode reports whether a node or one below it has a ${...}.
func hasCode(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode {
		return strings.Contains(n.Value, "${")
	}
	for _, c := range n.Content {
		if hasCode(c) {
			return true
		}
	}
	return false
}

// evaluator gives the value of one ${...}; nil, false leaves the whole scalar
// for later.
type evaluator func(code string, at places) (value any, ok bool)

// interpolate returns a copy of v in which every scalar with ${...} is
// replaced by its value. A scalar that is one ${...} keeps the value's type.
// Scalars for which eval has no value yet are passed to later, which returns
// the node to put there.
func interpolate(v schema.Value, eval evaluator, later func(schema.Value) *yaml.Node, d *schema.Diagnostics) schema.Value {
	if !hasCode(v.Node) {
		return v
	}
	out := *v.Node
	if v.Node.Kind != yaml.ScalarNode {
		out.Content = make([]*yaml.Node, len(v.Node.Content))
		for i, c := range v.Node.Content {
			out.Content[i] = interpolate(schema.Value{Node: c, Source: v.Source}, eval, later, d).Node
		}
		return schema.Value{Node: &out, Source: v.Source}
	}
	pieces, open := split(v.Node.Value)
	if open >= 0 {
		d.Add(v.At(open), "${ without its closing }")
		return schema.Value{Node: later(v), Source: v.Source}
	}
	written := func(p piece) places { return func(n int) schema.Pos { return v.At(p.at + n) } }
	if len(pieces) == 1 && pieces[0].isCode {
		value, ok := eval(pieces[0].code, written(pieces[0]))
		if !ok {
			return schema.Value{Node: later(v), Source: v.Source}
		}
		if err := bearable(value); err != nil {
			d.Add(v.At(pieces[0].at), "%q: %v", pieces[0].code, err)
			return schema.Value{Node: later(v), Source: v.Source}
		}
		return schema.Value{Node: toNode(value, v.Node), Source: v.Source}
	}
	var b strings.Builder
	known := true
	for _, p := range pieces {
		if !p.isCode {
			b.WriteString(p.literal)
			continue
		}
		value, ok := eval(p.code, written(p))
		if !ok {
			known = false // the other expressions are still checked
			continue
		}
		text, err := scalarText(value)
		if err != nil {
			d.Add(v.At(p.at), "%q: %v", p.code, err)
			known = false
		}
		if b.Len()+len(text) > maxWeight {
			d.Add(v.At(p.at), "%q: makes the text longer than %d bytes", p.code, maxWeight)
			return schema.Value{Node: later(v), Source: v.Source}
		}
		b.WriteString(text)
	}
	if !known {
		return schema.Value{Node: later(v), Source: v.Source}
	}
	out.Value, out.Tag = b.String(), "!!str"
	return schema.Value{Node: &out, Source: v.Source}
}

// scalarText returns how a value looks inside a text.
func scalarText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool, int, int64, uint64:
		return fmt.Sprint(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case nil:
		return "", fmt.Errorf("has no value")
	}
	return "", fmt.Errorf("a list or mapping cannot be part of a text")
}

// toNode returns a value as a YAML node at the place of near.
func toNode(v any, near *yaml.Node) *yaml.Node {
	n := &yaml.Node{Line: near.Line, Column: near.Column}
	switch v := v.(type) {
	case []any:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		for _, item := range v {
			n.Content = append(n.Content, toNode(item, near))
		}
	case map[string]any:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		for _, key := range sortedKeys(v) {
			n.Content = append(n.Content, toNode(key, near), toNode(v[key], near))
		}
	default:
		n.Kind = yaml.ScalarNode
		n.Tag, n.Value = scalarNode(v)
	}
	return n
}

func scalarNode(v any) (tag, value string) {
	switch v := v.(type) {
	case nil:
		return "!!null", "null"
	case bool:
		return "!!bool", strconv.FormatBool(v)
	case int:
		return "!!int", strconv.Itoa(v)
	case int64:
		return "!!int", strconv.FormatInt(v, 10)
	case float64:
		return "!!float", strconv.FormatFloat(v, 'g', -1, 64)
	}
	return "!!str", fmt.Sprint(v)
}

// fromNode returns a YAML node as a value: string, int, float64, bool, nil,
// []any or map[string]any.
func fromNode(n *yaml.Node) any {
	switch n.Kind {
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, c := range n.Content {
			list[i] = fromNode(c)
		}
		return list
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = fromNode(n.Content[i+1])
		}
		return m
	}
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err == nil {
			return v
		}
	}
	return n.Value
}
