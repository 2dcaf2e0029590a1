package engine

import (
	"reflect"
	"time"
)

// MapTexts returns a copy of v in which every text in an exported field, list
// or map is what f makes of it. key is the text's key in a map, "" elsewhere;
// keys are texts too.
func MapTexts[T any](v T, f func(key, text string) string) T {
	out := v
	reflect.ValueOf(&out).Elem().Set(mapTexts(reflect.ValueOf(&v).Elem(), "", f))
	return out
}

func mapTexts(v reflect.Value, key string, f func(key, text string) string) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.String:
		out.SetString(f(key, v.String()))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && v.Type() != reflect.TypeFor[time.Time]() {
				out.Field(i).Set(mapTexts(v.Field(i), "", f))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(mapTexts(v.Elem(), "", f))
		}
	case reflect.Interface:
		if !v.IsNil() {
			out.Set(mapTexts(v.Elem(), key, f))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		}
		for i := range v.Len() {
			out.Index(i).Set(mapTexts(v.Index(i), "", f))
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		}
		for _, k := range v.MapKeys() {
			name := ""
			if k.Kind() == reflect.String {
				name = k.String()
			}
			out.SetMapIndex(mapTexts(k, "", f), mapTexts(v.MapIndex(k), name, f))
		}
	}
	return out
}
