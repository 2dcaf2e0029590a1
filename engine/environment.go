package engine

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/expr-lang/expr/types"
)

// The environment of expressions: vars, host, facts, steps, hosts and run,
// once as types for the compiler and once as values for the run. Outputs and
// facts are Go structs whose fields have expr tags; here they become maps, so
// that names and types are checked alike everywhere.

// RunInfo identifies a run.
type RunInfo struct {
	ID      string    // sorts by time, safe as a file name
	Started time.Time // UTC
	Plan    bool      // nothing is changed
}

var runTypes = types.Map{"id": types.String, "started": types.String, "dry": types.Bool}

func (r RunInfo) values() map[string]any {
	return map[string]any{"id": r.ID, "started": r.Started.UTC().Format(time.RFC3339), "dry": r.Plan}
}

// stepTypes are the fields that every step's result has.
func stepTypes(outputs any) types.Map {
	m := types.Map{"changed": types.Bool, "skipped": types.Bool, "failed": types.Bool}
	if outputs == nil {
		return m
	}
	if o, ok := typeOf(reflect.TypeOf(outputs)).(types.Map); ok {
		maps.Copy(m, o)
	}
	return m
}

// typeOf describes a Go type to expr; structs become maps by their expr tags.
func typeOf(t reflect.Type) types.Type {
	switch t.Kind() {
	case reflect.Pointer:
		return typeOf(t.Elem())
	case reflect.Bool:
		return types.Bool
	case reflect.String:
		return types.String
	case reflect.Int, reflect.Int64:
		return types.Int
	case reflect.Float64:
		return types.Float64
	case reflect.Slice:
		return types.Array(typeOf(t.Elem()))
	case reflect.Map:
		return types.Map{types.Extra: typeOf(t.Elem())}
	case reflect.Struct:
		m := types.Map{}
		for i := range t.NumField() {
			if name := t.Field(i).Tag.Get("expr"); name != "" {
				m[name] = typeOf(t.Field(i).Type)
			}
		}
		return m
	}
	return types.Any
}

// valueOf returns a Go value in the form that typeOf describes.
func valueOf(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Invalid:
		return nil
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			if v.Kind() == reflect.Pointer {
				return valueOf(reflect.Zero(v.Type().Elem()))
			}
			return nil
		}
		return valueOf(v.Elem())
	case reflect.Bool:
		return v.Bool()
	case reflect.String:
		return v.String()
	case reflect.Int, reflect.Int64:
		return int(v.Int())
	case reflect.Float64:
		return v.Float()
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = valueOf(v.Index(i))
		}
		return list
	case reflect.Map:
		m := make(map[string]any, v.Len())
		for _, k := range v.MapKeys() {
			m[k.String()] = valueOf(v.MapIndex(k))
		}
		return m
	case reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Tag.Get("expr"); name != "" {
				m[name] = valueOf(v.Field(i))
			}
		}
		return m
	}
	return nil
}

// typeOfValue describes a variable's value. Lists may hold anything; a null
// is not known.
func typeOfValue(v any) types.Type {
	switch v := v.(type) {
	case bool:
		return types.Bool
	case string:
		return types.String
	case int:
		return types.Int
	case float64:
		return types.Float64
	case []any:
		return types.Array(types.Any)
	case map[string]any:
		return typesOfValues(v)
	}
	return types.Any
}

func typesOfValues(values map[string]any) types.Map {
	m := types.Map{}
	for name, v := range values {
		m[name] = typeOfValue(v)
	}
	return m
}

// stepValues returns a step's result as expressions see it.
func stepValues(spec Spec, r *stepResult) map[string]any {
	m := map[string]any{}
	if spec.Outputs != nil {
		if zero, ok := valueOf(reflect.ValueOf(spec.Outputs)).(map[string]any); ok {
			m = zero
		}
	}
	if r != nil && r.outputs != nil {
		if o, ok := valueOf(reflect.ValueOf(r.outputs)).(map[string]any); ok {
			maps.Copy(m, o)
		}
	}
	m["changed"] = r != nil && r.status == statusChanged
	m["skipped"] = r != nil && r.status == statusSkipped
	m["failed"] = r != nil && r.status == statusFailed
	return m
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
