package schema

import (
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"
)

// Field is one key of a document's mapping or one argument of an action, read
// from the tags of a Go struct field.
type Field struct {
	Name     string // the key
	Doc      string // one sentence
	Default  string // as written in YAML; "" is none
	Enum     []string
	Min, Max string // bounds of a number, inclusive; "" is none
	Required bool
	Secret   bool // it may hold a secret: the value goes to the host's standard input only
	Type     reflect.Type

	index []int
}

// Fields returns the fields of a struct type that have a yaml tag, in order,
// those of embedded structs included.
func Fields(t reflect.Type) []Field {
	var list []Field
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Anonymous && sf.Type.Kind() == reflect.Struct {
			for _, f := range Fields(sf.Type) {
				f.index = append([]int{i}, f.index...)
				list = append(list, f)
			}
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		f := Field{
			Name:     name,
			Doc:      sf.Tag.Get("doc"),
			Default:  sf.Tag.Get("default"),
			Min:      sf.Tag.Get("min"),
			Max:      sf.Tag.Get("max"),
			Required: sf.Tag.Get("required") == "true",
			Secret:   sf.Tag.Get("secret") == "true",
			Type:     sf.Type,
			index:    []int{i},
		}
		if e := sf.Tag.Get("enum"); e != "" {
			f.Enum = strings.Split(e, "|")
		}
		list = append(list, f)
	}
	return list
}

// DefaultNode returns the default as a node that lies at the place of near.
func (f Field) DefaultNode(near *yaml.Node) *yaml.Node {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(f.Default), &doc); err != nil || len(doc.Content) == 0 {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: f.Default}
	}
	n := doc.Content[0]
	place(n, near)
	return n
}

func place(n, near *yaml.Node) {
	if near != nil {
		n.Line, n.Column = near.Line, near.Column
	}
	for _, c := range n.Content {
		place(c, near)
	}
}

// TypeName names the field's type in the words of the documents.
func (f Field) TypeName() string {
	switch f.Type.Kind() {
	case reflect.Slice:
		return "list of " + strings.TrimPrefix(strings.TrimPrefix(typeName(f.Type.Elem()), "a "), "whole ")
	case reflect.Map:
		return "mapping"
	}
	return strings.TrimPrefix(typeName(f.Type), "a ")
}
