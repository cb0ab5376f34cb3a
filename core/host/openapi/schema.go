package openapi

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// schemas collects the components that references name.
type schemas struct {
	all   object
	named map[string]protoreflect.Descriptor // the descriptor that each name stands for
}

func newSchemas() *schemas {
	detail := object{
		"type":        "object",
		"description": "A message of google.rpc, as Connect writes it: debug is the message in JSON.",
		"properties": object{
			"type": object{"type": "string"}, "value": object{"type": "string", "contentEncoding": "base64"}, "debug": object{},
		},
		"required": []string{"type", "value"},
	}
	codes := []string{
		"canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists", "permission_denied", "resource_exhausted",
		"failed_precondition", "aborted", "out_of_range", "unimplemented", "internal", "unavailable", "data_loss", "unauthenticated",
	}
	return &schemas{
		named: map[string]protoreflect.Descriptor{},
		all: object{
			"Error": object{
				"type": "object",
				"properties": object{
					"code":    object{"type": "string", "enum": codes},
					"message": object{"type": "string", "description": "Begins with the reason and a colon."},
					"details": object{"type": "array", "items": detail},
				},
				"required": []string{"code"},
			},
			"ErrorLine": object{
				"type": "object", "properties": object{"error": ref("Error")}, "required": []string{"error"}, "additionalProperties": false,
			},
		},
	}
}

// name returns the component of a descriptor, and whether it is new. Two plugins
// may have different messages of one name.
func (s *schemas) name(d protoreflect.Descriptor) (string, bool) {
	for n := 1; ; n++ {
		name := string(d.FullName())
		if n > 1 {
			name = fmt.Sprintf("%s-%d", name, n)
		}
		other, taken := s.named[name]
		if !taken {
			s.named[name] = d
			return name, true
		}
		if same(other, d) {
			return name, false
		}
	}
}

func same(a, b protoreflect.Descriptor) bool {
	if a == b {
		return true
	}
	switch a := a.(type) {
	case protoreflect.MessageDescriptor:
		b, ok := b.(protoreflect.MessageDescriptor)
		return ok && proto.Equal(protodesc.ToDescriptorProto(a), protodesc.ToDescriptorProto(b))
	case protoreflect.EnumDescriptor:
		b, ok := b.(protoreflect.EnumDescriptor)
		return ok && proto.Equal(protodesc.ToEnumDescriptorProto(a), protodesc.ToEnumDescriptorProto(b))
	}
	return false
}

// message returns the schema of a message, mostly a reference.
func (s *schemas) message(md protoreflect.MessageDescriptor) object {
	if known := wellKnown(md.FullName()); known != nil {
		return known
	}
	name, isNew := s.name(md)
	if isNew {
		// Before its fields, which may lead back to it.
		o := withText(object{"type": "object", "additionalProperties": false}, comment(md))
		s.all[name] = o
		s.fields(o, md)
	}
	return ref(name)
}

func (s *schemas) fields(o object, md protoreflect.MessageDescriptor) {
	properties := object{}
	for i := range md.Fields().Len() {
		f := md.Fields().Get(i)
		properties[f.JSONName()] = s.field(f)
	}
	o["properties"] = properties
	var choices []any
	for i := range md.Oneofs().Len() {
		if one := md.Oneofs().Get(i); !one.IsSynthetic() {
			choices = append(choices, choice(one))
		}
	}
	if choices != nil {
		o["allOf"] = choices
	}
}

// choice says that at most one of the fields is there.
func choice(one protoreflect.OneofDescriptor) object {
	var each []any
	for i := range one.Fields().Len() {
		each = append(each, object{"required": []string{one.Fields().Get(i).JSONName()}})
	}
	return object{"oneOf": append(each, object{"not": object{"anyOf": append([]any(nil), each...)}})}
}

func (s *schemas) field(f protoreflect.FieldDescriptor) object {
	var o object
	switch {
	case f.IsMap():
		o = object{"type": "object", "additionalProperties": s.value(f.MapValue())}
		if keys := mapKeys(f.MapKey().Kind()); keys != nil {
			o["propertyNames"] = keys
		}
	case f.IsList():
		o = object{"type": "array", "items": s.value(f)}
	default:
		o = s.value(f)
	}
	// Beside a $ref, 3.1 lets a description stand.
	o = withText(o, comment(f))
	if options, _ := f.Options().(*descriptorpb.FieldOptions); options.GetDeprecated() {
		o["deprecated"] = true
	}
	return o
}

// value returns the schema of one value, as protojson writes it. It is the
// caller's to add to.
func (s *schemas) value(f protoreflect.FieldDescriptor) object {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return s.message(f.Message())
	case protoreflect.EnumKind:
		return s.enum(f.Enum())
	default:
		return scalar(f.Kind())
	}
}

func (s *schemas) enum(ed protoreflect.EnumDescriptor) object {
	if ed.FullName() == "google.protobuf.NullValue" {
		return object{"type": "null"}
	}
	name, isNew := s.name(ed)
	if isNew {
		var values []string
		for i := range ed.Values().Len() {
			values = append(values, string(ed.Values().Get(i).Name()))
		}
		s.all[name] = withText(object{"type": "string", "enum": values}, comment(ed))
	}
	return ref(name)
}

func scalar(k protoreflect.Kind) object {
	switch k {
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{"type": "integer", "format": "uint32", "minimum": 0}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return object{"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		format := "double"
		if k == protoreflect.FloatKind {
			format = "float"
		}
		return object{"anyOf": []any{object{"type": "number", "format": format}, object{"enum": []string{"NaN", "Infinity", "-Infinity"}}}}
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	default:
		return object{"type": "string"}
	}
}

// mapKeys returns what a map's keys look like; in JSON they are strings.
func mapKeys(k protoreflect.Kind) object {
	switch k {
	case protoreflect.StringKind:
		return nil
	case protoreflect.BoolKind:
		return object{"enum": []string{"true", "false"}}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"pattern": "^[0-9]+$"}
	default:
		return object{"pattern": "^-?[0-9]+$"}
	}
}

// wellKnown returns the schema of a type that has a form of its own in JSON, nil
// for any other.
func wellKnown(name protoreflect.FullName) object {
	if name.Parent() != "google.protobuf" {
		return nil
	}
	switch name.Name() {
	case "Timestamp":
		return object{"type": "string", "format": "date-time"}
	case "Duration":
		return object{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]{1,9})?s$`, "examples": []string{"15s", "1.500s"}}
	case "FieldMask":
		return object{"type": "string"}
	case "Empty":
		return object{"type": "object", "additionalProperties": false}
	case "Struct":
		return object{"type": "object"}
	case "ListValue":
		return object{"type": "array"}
	case "Value":
		return object{"description": "Any JSON value."}
	case "Any":
		return object{"type": "object", "properties": object{"@type": object{"type": "string"}}, "required": []string{"@type"}}
	case "BoolValue", "StringValue", "BytesValue", "Int32Value", "UInt32Value", "Int64Value", "UInt64Value", "FloatValue", "DoubleValue":
		return object{"anyOf": []any{scalar(wrapped(name.Name())), object{"type": "null"}}}
	default:
		return nil
	}
}

func wrapped(name protoreflect.Name) protoreflect.Kind {
	return map[protoreflect.Name]protoreflect.Kind{
		"BoolValue": protoreflect.BoolKind, "StringValue": protoreflect.StringKind, "BytesValue": protoreflect.BytesKind,
		"Int32Value": protoreflect.Int32Kind, "UInt32Value": protoreflect.Uint32Kind, "Int64Value": protoreflect.Int64Kind,
		"UInt64Value": protoreflect.Uint64Kind, "FloatValue": protoreflect.FloatKind, "DoubleValue": protoreflect.DoubleKind,
	}[name]
}
