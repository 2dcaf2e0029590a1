package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// The kinds of documents.
const (
	KindPlaybook  = "playbook"
	KindOverlay   = "overlay"
	KindInventory = "inventory"
	KindSecrets   = "secrets"
)

// ActionDoc describes an action to the JSON Schemas.
type ActionDoc struct {
	Name    string
	Summary string       // one line
	Args    reflect.Type // the struct whose tagged fields are the arguments
}

// JSONSchema returns the draft-07 JSON Schema of a kind of document, for
// editors: indented, ending with a newline, and the same bytes for the same
// input. It refuses nothing that the parser and the compiler accept.
func JSONSchema(kind string, actions []ActionDoc) ([]byte, error) {
	top, ok := map[string]reflect.Type{
		KindPlaybook:  reflect.TypeFor[Playbook](),
		KindOverlay:   reflect.TypeFor[Overlay](),
		KindInventory: reflect.TypeFor[Inventory](),
		KindSecrets:   reflect.TypeFor[Secrets](),
	}[kind]
	if !ok {
		return nil, fmt.Errorf("no document is a %q; want %s, %s, %s or %s", kind, KindPlaybook, KindOverlay, KindInventory, KindSecrets)
	}
	g := generator{actions: slices.Clone(actions)}
	slices.SortFunc(g.actions, func(a, b ActionDoc) int { return strings.Compare(a.Name, b.Name) })
	root := g.object(top)
	root.Schema, root.Title = "http://json-schema.org/draft-07/schema#", "Certbook "+kind
	root.Definitions = g.definitions
	slices.SortFunc(root.Definitions, func(a, b member) int { return strings.Compare(a.name, b.name) })
	return encode(root, "  ")
}

// CheckJSONSchema compares a stored JSON Schema with what JSONSchema returns
// now.
func CheckJSONSchema(file, kind string, actions []ActionDoc) error {
	want, err := JSONSchema(kind, actions)
	if err != nil {
		return err
	}
	have, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("schema of the %s: %s: %v", kind, file, cause(err))
	}
	if !bytes.Equal(have, want) {
		return fmt.Errorf("%s is not the schema of the %s any more; generate it again", file, kind)
	}
	return nil
}

// jsonSchema is a JSON Schema, its keywords in the order in which people read.
type jsonSchema struct {
	Schema        string        `json:"$schema,omitempty"`
	Title         string        `json:"title,omitempty"`
	Description   string        `json:"description,omitempty"`
	Ref           string        `json:"$ref,omitempty"`
	Type          any           `json:"type,omitempty"` // a name or a list of names
	Const         any           `json:"const,omitempty"`
	Enum          []string      `json:"enum,omitempty"`
	Pattern       string        `json:"pattern,omitempty"`
	Minimum       json.Number   `json:"minimum,omitempty"`
	Maximum       json.Number   `json:"maximum,omitempty"`
	Default       any           `json:"default,omitempty"`
	MinItems      int           `json:"minItems,omitempty"`
	Items         *jsonSchema   `json:"items,omitempty"`
	MinProperties int           `json:"minProperties,omitempty"`
	Names         *jsonSchema   `json:"propertyNames,omitempty"`
	Properties    members       `json:"properties,omitempty"`
	Required      []string      `json:"required,omitempty"`
	Additional    any           `json:"additionalProperties,omitempty"` // false or a schema
	AllOf         []*jsonSchema `json:"allOf,omitempty"`
	AnyOf         []*jsonSchema `json:"anyOf,omitempty"`
	OneOf         []*jsonSchema `json:"oneOf,omitempty"`
	Not           *jsonSchema   `json:"not,omitempty"`
	If            *jsonSchema   `json:"if,omitempty"`
	Then          *jsonSchema   `json:"then,omitempty"`
	Definitions   members       `json:"definitions,omitempty"`
}

// members is a JSON object that keeps its order.
type members []member

type member struct {
	name   string
	schema *jsonSchema
}

// MarshalJSON implements json.Marshaler.
func (m members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, one := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := encode(one.name, "")
		if err != nil {
			return nil, err
		}
		value, err := encode(one.schema, "")
		if err != nil {
			return nil, err
		}
		b.Write(bytes.TrimSpace(name))
		b.WriteByte(':')
		b.Write(bytes.TrimSpace(value))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("json schema: %v", err)
	}
	return b.Bytes(), nil
}

// defaultValue returns a field's default as JSON has it, nil for none.
func (f Field) defaultValue() any {
	if f.Default == "" {
		return nil
	}
	n := f.DefaultNode(nil)
	if n.Kind == yaml.ScalarNode && strings.HasPrefix(typeName(f.Type), "a duration") || typeName(f.Type) == "text" {
		return n.Value
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return f.Default
	}
	return v
}
