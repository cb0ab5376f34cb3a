package conformance

import (
	"math"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// oddValues returns functions that set a field to values at and beyond its limits.
func oddValues(f protoreflect.FieldDescriptor) []func(*dynamicpb.Message) {
	var sets []func(*dynamicpb.Message)
	for _, v := range odd(f) {
		switch {
		case f.IsMap():
			continue
		case f.IsList():
			sets = append(sets, func(m *dynamicpb.Message) {
				list := m.NewField(f)
				list.List().Append(v)
				m.Set(f, list)
			})
		default:
			sets = append(sets, func(m *dynamicpb.Message) { m.Set(f, v) })
		}
	}
	return sets
}

// odd returns values of one element of a field.
func odd(f protoreflect.FieldDescriptor) []protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return []protoreflect.Value{
			protoreflect.ValueOfString(""), protoreflect.ValueOfString("a\nb"), protoreflect.ValueOfString("../.."), protoreflect.ValueOfString("//"),
			protoreflect.ValueOfString(strings.Repeat("x", 5000)),
		}
	case protoreflect.BytesKind:
		return []protoreflect.Value{protoreflect.ValueOfBytes([]byte{0xff, 0}), protoreflect.ValueOfBytes(make([]byte, 5000))}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt32(-1), protoreflect.ValueOfInt32(math.MaxInt32), protoreflect.ValueOfInt32(math.MinInt32)}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt64(-1), protoreflect.ValueOfInt64(math.MaxInt64), protoreflect.ValueOfInt64(math.MinInt64)}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint32(math.MaxUint32)}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint64(math.MaxUint64)}
	case protoreflect.DoubleKind:
		return []protoreflect.Value{protoreflect.ValueOfFloat64(-1), protoreflect.ValueOfFloat64(math.NaN()), protoreflect.ValueOfFloat64(math.Inf(1))}
	case protoreflect.FloatKind:
		return []protoreflect.Value{protoreflect.ValueOfFloat32(-1), protoreflect.ValueOfFloat32(float32(math.NaN()))}
	case protoreflect.EnumKind:
		return []protoreflect.Value{protoreflect.ValueOfEnum(9999), protoreflect.ValueOfEnum(-1)}
	case protoreflect.MessageKind:
		return oddMessages(f.Message())
	case protoreflect.BoolKind:
		return []protoreflect.Value{protoreflect.ValueOfBool(true)}
	case protoreflect.GroupKind: // not in proto3
	}
	return nil
}

// oddMessages returns an empty message, and those beyond the limits of times.
func oddMessages(d protoreflect.MessageDescriptor) []protoreflect.Value {
	values := []protoreflect.Value{protoreflect.ValueOfMessage(dynamicpb.NewMessage(d))}
	if name := d.FullName(); name != "google.protobuf.Duration" && name != "google.protobuf.Timestamp" {
		return values
	}
	for _, seconds := range []int64{-1, math.MaxInt64, math.MinInt64} {
		m := dynamicpb.NewMessage(d)
		m.Set(d.Fields().ByName("seconds"), protoreflect.ValueOfInt64(seconds))
		values = append(values, protoreflect.ValueOfMessage(m))
	}
	m := dynamicpb.NewMessage(d)
	m.Set(d.Fields().ByName("nanos"), protoreflect.ValueOfInt32(math.MaxInt32))
	return append(values, protoreflect.ValueOfMessage(m))
}
