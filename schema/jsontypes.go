package schema

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// generator turns the documents' Go types into JSON Schemas.
type generator struct {
	actions     []ActionDoc
	definitions members
	args        bool // within an action's arguments, where ${...} is allowed
}

const (
	durationPattern = `^(0|([0-9]+([.][0-9]+)?(ms|s|m|h|d|w))+)$`
	codePattern     = `\$\{`
	namePattern     = `^[^\s,!/'"]+$`
)

// scalars are the JSON types of what YAML writes where a text is wanted: a
// version such as 1.30 needs no quotes.
func scalars() []string { return []string{"string", "number", "boolean"} }

// schemaOf returns the schema of a type.
func (g *generator) schemaOf(t reflect.Type) *jsonSchema {
	s := g.plain(t)
	if g.args && !acceptsText(s) {
		return &jsonSchema{AnyOf: []*jsonSchema{s, {Type: "string", Pattern: codePattern}}}
	}
	return s
}

// acceptsText reports whether any text is valid, so also one with ${...}.
func acceptsText(s *jsonSchema) bool {
	types, ok := s.Type.([]string)
	return s.Type == nil && s.Ref == "" && s.AnyOf == nil && s.Enum == nil ||
		ok && slices.Contains(types, "string") && s.Pattern == ""
}

func (g *generator) plain(t reflect.Type) *jsonSchema {
	switch t {
	case reflect.TypeFor[Value]():
		return &jsonSchema{}
	case reflect.TypeFor[Text]():
		return &jsonSchema{Type: scalars()}
	case reflect.TypeFor[Duration]():
		return &jsonSchema{Type: []string{"string", "integer"}, Pattern: durationPattern, Minimum: "0", Maximum: "0"}
	case reflect.TypeFor[Serial]():
		return &jsonSchema{Type: []string{"integer", "string"}, Minimum: "1", Pattern: `^(all|0*[1-9][0-9]*|0*([1-9][0-9]?|100)%)$`}
	case reflect.TypeFor[Hosts]():
		return &jsonSchema{AnyOf: []*jsonSchema{{Type: scalars()}, {Type: "array", MinItems: 1, Items: &jsonSchema{Type: scalars()}}}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.plain(t.Elem())
	case reflect.Bool:
		return &jsonSchema{Type: "boolean"}
	case reflect.String:
		return &jsonSchema{Type: scalars()}
	case reflect.Float32, reflect.Float64:
		return &jsonSchema{Type: "number"}
	case reflect.Slice:
		return &jsonSchema{Type: "array", Items: g.schemaOf(t.Elem())}
	case reflect.Map:
		s := &jsonSchema{Type: "object"}
		if t.Elem() != reflect.TypeFor[Value]() {
			s.Additional = g.schemaOf(t.Elem())
		}
		return s
	case reflect.Struct:
		return g.reference(t)
	case reflect.Interface:
		return &jsonSchema{}
	}
	return &jsonSchema{Type: "integer"}
}

// reference puts a struct's schema among the definitions. Structs of an
// action's arguments have no document-wide name and stay where they are.
func (g *generator) reference(t reflect.Type) *jsonSchema {
	if g.args {
		return g.object(t)
	}
	name := strings.ToLower(t.Name())
	if !slices.ContainsFunc(g.definitions, func(m member) bool { return m.name == name }) {
		at := len(g.definitions)
		g.definitions = append(g.definitions, member{name: name}) // before its fields, which may name it
		object := g.object(t)
		g.definitions[at].schema = object
	}
	return &jsonSchema{Ref: "#/definitions/" + name}
}

// object returns the schema of a struct.
func (g *generator) object(t reflect.Type) *jsonSchema {
	s := &jsonSchema{Type: "object", Additional: false}
	fields := Fields(t)
	for _, f := range fields {
		s.Properties = append(s.Properties, member{f.Name, g.field(t, f)})
		if f.Required && (f.Default == "" || !g.args) {
			s.Required = append(s.Required, f.Name)
		}
	}
	if !anyRequired(fields) {
		s.Type = []string{"object", "null"} // "m1:" with nothing behind it
	}
	switch t {
	case reflect.TypeFor[Step]():
		g.perAction(s)
	case reflect.TypeFor[Insertion]():
		s.OneOf = []*jsonSchema{{Required: []string{"before"}}, {Required: []string{"after"}}}
	}
	return s
}

func (g *generator) field(owner reflect.Type, f Field) *jsonSchema {
	s := g.plain(f.Type)
	if len(f.Enum) > 0 {
		target := s
		if s.Items != nil {
			target = s.Items
			target.AnyOf = nil
		}
		target.Type, target.Enum = nil, f.Enum
		if g.args && target != s {
			*target = jsonSchema{AnyOf: []*jsonSchema{{Enum: f.Enum}, {Type: "string", Pattern: codePattern}}}
		}
	}
	if f.Min != "" || f.Max != "" {
		s.Minimum, s.Maximum = json.Number(f.Min), json.Number(f.Max)
	}
	narrow(owner, f, s)
	if s.Ref != "" { // draft-07 ignores what stands beside a $ref
		s = &jsonSchema{AllOf: []*jsonSchema{s}}
	}
	if g.args {
		s = g.argument(f, s)
	}
	s.Description, s.Default = f.Doc, f.defaultValue()
	return s
}

// argument lets an expression, or null for the default, stand in for a value.
func (g *generator) argument(f Field, s *jsonSchema) *jsonSchema {
	any := []*jsonSchema{s}
	if !acceptsText(s) {
		any = append(any, &jsonSchema{Type: "string", Pattern: codePattern})
	}
	if !f.Required || f.Default != "" {
		any = append(any, &jsonSchema{Type: "null"})
	}
	if len(any) == 1 {
		return s
	}
	return &jsonSchema{AnyOf: any}
}

// narrow adds the rules that the parser has beside types, enums and bounds.
func narrow(owner reflect.Type, f Field, s *jsonSchema) {
	switch {
	case f.Name == "version":
		s.Type, s.Const = nil, 1
	case f.Name == "vars":
		s.Names = &jsonSchema{Pattern: varName.String()}
	case owner == reflect.TypeFor[Step]() && f.Name == "id":
		s.Type, s.Pattern = "string", stepID.String()
	case owner == reflect.TypeFor[Playbook]() && f.Name == "plays":
		s.MinItems = 1
	case owner == reflect.TypeFor[StepPatch]() && f.Name == "off":
		s.Type, s.Pattern = []string{"string", "number"}, `\S`
	case owner == reflect.TypeFor[Inventory]() && f.Name == "hosts":
		s.MinProperties, s.Names = 1, &jsonSchema{Pattern: namePattern, Not: &jsonSchema{Const: "all"}}
	case owner == reflect.TypeFor[Inventory]() && f.Name == "groups":
		s.Names = &jsonSchema{Pattern: namePattern, Not: &jsonSchema{Const: "all"}}
	}
}

// perAction lists the actions and checks the arguments of each.
func (g *generator) perAction(step *jsonSchema) {
	if len(g.actions) == 0 {
		return
	}
	var names []string
	for _, a := range g.actions {
		names = append(names, a.Name)
		inner := generator{args: true}
		with := inner.object(a.Args)
		then := &jsonSchema{Properties: members{
			{"action", &jsonSchema{Description: a.Summary}},
			{"with", &jsonSchema{AllOf: []*jsonSchema{{Ref: "#/definitions/with-" + a.Name}}}},
		}}
		if len(with.Required) > 0 {
			then.Required = []string{"with"}
		}
		with.Type, with.Description = "object", a.Summary
		g.definitions = append(g.definitions, member{"with-" + a.Name, with})
		step.AllOf = append(step.AllOf, &jsonSchema{
			If:   &jsonSchema{Properties: members{{"action", &jsonSchema{Const: a.Name}}}, Required: []string{"action"}},
			Then: then,
		})
	}
	for _, p := range step.Properties {
		if p.name == "action" {
			p.schema.Type, p.schema.Enum = nil, names
		}
	}
}
