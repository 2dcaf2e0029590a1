package schema

import (
	"math"
	"reflect"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// field fills one field and checks it against its enum and bounds.
func (d *Decoder) field(v Value, f Field, t reflect.Value) {
	before := d.Len()
	d.value(v, t)
	if d.Len() > before {
		return
	}
	if len(f.Enum) > 0 {
		d.enum(v, f, t)
	}
	if f.Min != "" || f.Max != "" {
		d.bounds(v, f, t)
	}
}

func (d *Decoder) isDeferred(n *yaml.Node) bool {
	if d.Deferred == nil {
		return false
	}
	_, ok := d.Deferred(n)
	return ok
}

// enum checks a text, or each of a list, against the values that its field
// allows.
func (d *Decoder) enum(v Value, f Field, t reflect.Value) {
	if d.isDeferred(v.Node) {
		return
	}
	if t.Kind() == reflect.Slice {
		for i, c := range v.Node.Content {
			d.enum(Value{Node: c, Source: v.Source}, f, t.Index(i))
		}
		return
	}
	if t.Kind() == reflect.String && index(f.Enum, t.String()) < 0 {
		d.Add(v.Pos(), "%s: want one of %s, not %q%s", f.Name, strings.Join(f.Enum, ", "), v.Source.shown(v.Node.Value), Suggest(v.Node.Value, f.Enum))
	}
}

// bounds checks a number against the smallest and largest that its field
// allows.
func (d *Decoder) bounds(v Value, f Field, t reflect.Value) {
	if d.isDeferred(v.Node) {
		return
	}
	var x float64
	switch {
	case t.CanInt():
		x = float64(t.Int())
	case t.CanFloat():
		x = t.Float()
	}
	low, high := math.Inf(-1), math.Inf(1)
	if n, err := strconv.ParseFloat(f.Min, 64); err == nil {
		low = n
	}
	if n, err := strconv.ParseFloat(f.Max, 64); err == nil {
		high = n
	}
	if x >= low && x <= high { // false for a NaN
		return
	}
	want := "at least " + f.Min
	switch {
	case f.Min == "":
		want = "at most " + f.Max
	case f.Max != "":
		want = f.Min + " to " + f.Max
	}
	d.Add(v.Pos(), "%s: want %s, not %s", f.Name, want, v.Source.shown(v.Node.Value))
}

func isWhole(t reflect.Value) bool { return t.CanInt() || t.CanUint() }

// whole reports whether a number is one without a fraction; yaml.v3 would cut
// the fraction off.
func whole(n *yaml.Node) bool {
	if n.Tag == "!!int" {
		return true
	}
	var x float64
	return n.Decode(&x) == nil && x == math.Trunc(x)
}
