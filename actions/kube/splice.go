package kube

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// source is a text with the offsets of its lines.
type source struct {
	data  []byte
	lines []int
}

func newSource(data []byte) source {
	s := source{data: data, lines: []int{0}}
	for i, b := range data {
		if b == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

// offset returns where a node starts; yaml counts columns in characters.
func (s source) offset(n *yaml.Node) (int, bool) {
	if n.Line < 1 || n.Line > len(s.lines) {
		return 0, false
	}
	at := s.lines[n.Line-1]
	line := s.data[at:]
	column := 1
	for i := range string(line[:s.lineEnd(n.Line)-at]) {
		if column == n.Column {
			return at + i, true
		}
		column++
	}
	return 0, false
}

// lineEnd returns the offset of a line's end, without its line break.
func (s source) lineEnd(line int) int {
	if line >= len(s.lines) {
		return len(s.data)
	}
	end := s.lines[line] - 1
	if end > 0 && s.data[end-1] == '\r' {
		end--
	}
	return end
}

// token returns the extent of a scalar that stands on one line.
func (s source) token(n *yaml.Node) (start, end int, ok bool) {
	start, ok = s.offset(n)
	if !ok || n.Kind != yaml.ScalarNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		return 0, 0, false
	}
	rest := s.data[start:s.lineEnd(n.Line)]
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		end = quotedEnd(rest, '"')
	case n.Style&yaml.SingleQuotedStyle != 0:
		end = quotedEnd(rest, '\'')
	case n.Style == 0 && n.Value != "" && bytes.HasPrefix(rest, []byte(n.Value)):
		end = len(n.Value)
	}
	return start, start + end, end > 0
}

// quotedEnd returns the length of the quoted scalar that rest starts with, 0
// when it does not end there.
func quotedEnd(rest []byte, quote byte) int {
	if len(rest) == 0 || rest[0] != quote {
		return 0
	}
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && quote == '"':
			i++
		case rest[i] == quote && quote == '\'' && i+1 < len(rest) && rest[i+1] == quote:
			i++
		case rest[i] == quote:
			return i + 1
		}
	}
	return 0
}

// block returns the lines of a key's entry in a block mapping: up to the next
// line that is not indented more than the key. first says that the key stands
// first on its line.
func (s source) block(k *yaml.Node) (start, end int, first, ok bool) {
	at, ok := s.offset(k)
	if !ok {
		return 0, 0, false, false
	}
	start, end = s.lines[k.Line-1], len(s.data)
	last := k.Line
	for line := k.Line + 1; line <= len(s.lines); line++ {
		content := s.data[s.lines[line-1]:s.lineEnd(line)]
		trimmed := bytes.TrimLeft(content, " ")
		if len(bytes.TrimSpace(trimmed)) == 0 {
			continue
		}
		if len(content)-len(trimmed) < k.Column {
			break
		}
		last = line
	}
	if last < len(s.lines) {
		end = s.lines[last]
	}
	return start, end, len(bytes.TrimLeft(s.data[start:at], " ")) == 0, true
}

// replace returns the text with [start, end) replaced.
func (s source) replace(start, end int, with string) []byte {
	out := make([]byte, 0, len(s.data)+len(with))
	out = append(out, s.data[:start]...)
	out = append(out, with...)
	return append(out, s.data[end:]...)
}

// eol returns the text's line break.
func (s source) eol() string {
	if bytes.Contains(s.data, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

func (s source) set(m *yaml.Node, p pair) ([]byte, bool) {
	flow := m.Style&yaml.FlowStyle != 0
	if k, v := entry(m, p.key); k != nil {
		if start, end, ok := s.token(v); ok {
			return s.replace(start, end, scalar(p.value, v.Style, flow)), true
		}
		start, end, _, ok := s.block(k)
		at, _ := s.offset(k)
		if flow || !ok || start > at {
			return nil, false
		}
		return s.replace(at, end, p.key+": "+scalar(p.value, 0, false)+s.eol()), true
	}
	if flow {
		at, ok := s.offset(m)
		if !ok || s.data[at] != '{' {
			return nil, false
		}
		text := quote(p.key) + ": " + quote(p.value)
		if len(m.Content) > 0 {
			text += ", "
		}
		return s.replace(at+1, at+1, text), true
	}
	if len(m.Content) == 0 {
		return nil, false
	}
	at, ok := s.offset(m.Content[0])
	if !ok {
		return nil, false
	}
	indent := strings.Repeat(" ", m.Content[0].Column-1)
	return s.replace(at, at, p.key+": "+scalar(p.value, 0, false)+s.eol()+indent), true
}

func (s source) remove(m *yaml.Node, key string) ([]byte, bool) {
	k, v := entry(m, key)
	if k == nil {
		return s.data, true
	}
	if m.Style&yaml.FlowStyle == 0 {
		start, end, first, ok := s.block(k)
		if !ok || !first || len(m.Content) <= 2 {
			return nil, false
		}
		return s.replace(start, end, ""), true
	}
	start, ok := s.offset(k)
	_, end, ok2 := s.token(v)
	if !ok || !ok2 {
		return nil, false
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i] == k && i+2 < len(m.Content) {
			end, ok = s.offset(m.Content[i+2])
			return s.replace(start, max(start, end), ""), ok
		}
	}
	comma := bytes.LastIndexByte(s.data[:start], ',')
	brace := bytes.LastIndexByte(s.data[:start], '{')
	if comma > brace {
		start = comma
	}
	return s.replace(start, end, ""), true
}

var plainScalar = regexp.MustCompile(`^[A-Za-z0-9/+.][A-Za-z0-9/+=._:-]*[A-Za-z0-9/+=._-]$`)

// scalar writes a value in the style that stood there, quoted where it must be.
func scalar(value string, style yaml.Style, flow bool) string {
	if flow || style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 || !plainScalar.MatchString(value) {
		return quote(value)
	}
	return value
}

// quote writes a double-quoted scalar, which is the same in YAML and JSON.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}
