package schema

import (
	"reflect"
	"time"
)

// assignable reports whether a value of the type that an expression gives can
// go into a target. What is known at run time only can.
func assignable(actual, target reflect.Type) bool {
	if actual == nil || actual.Kind() == reflect.Interface {
		return true // known at run time only
	}
	duration := actual == reflect.TypeFor[time.Duration]() || actual == reflect.TypeFor[Duration]()
	switch {
	case target == reflect.TypeFor[Value]():
		return true
	case target == reflect.TypeFor[Duration]():
		return duration || actual.Kind() == reflect.String
	case target.Kind() == reflect.Pointer:
		return assignable(actual, target.Elem())
	case target.Kind() == reflect.String, target == reflect.TypeFor[Text]():
		return actual.Kind() == reflect.String || actual.Kind() == reflect.Bool || isNumber(actual.Kind())
	case isNumber(target.Kind()):
		return isNumber(actual.Kind()) && !duration
	case target.Kind() == reflect.Slice:
		return actual.Kind() == reflect.Slice && assignable(actual.Elem(), target.Elem())
	case target.Kind() == reflect.Map:
		return actual.Kind() == reflect.Map || actual.Kind() == reflect.Struct
	}
	return actual.Kind() == target.Kind()
}

// typeName names a Go type in the words of the documents.
func typeName(t reflect.Type) string {
	if t == nil {
		return "nothing"
	}
	switch {
	case t == reflect.TypeFor[Duration]():
		return "a duration"
	case t == reflect.TypeFor[Text]():
		return "text"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Interface:
		return "a value"
	}
	if t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64 {
		return "a whole number"
	}
	return t.String()
}

func isNumber(k reflect.Kind) bool {
	return k >= reflect.Int && k <= reflect.Float64 && k != reflect.Uintptr
}
