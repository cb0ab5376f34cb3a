package catalog

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
)

// A Method is what a caller has to know of a method.
type Method struct {
	Name            string  `json:"method"` // "package.Service/Method"
	Summary         string  `json:"summary,omitempty"`
	Permission      string  `json:"permission"`
	Idempotency     string  `json:"idempotency,omitempty"` // "read" or "idempotent"
	SessionField    string  `json:"sessionField,omitempty"`
	SessionOptional bool    `json:"sessionOptional,omitempty"`
	ClientStream    bool    `json:"clientStream,omitempty"`
	ServerStream    bool    `json:"serverStream,omitempty"`
	Request         Message `json:"request"`
	Response        Message `json:"response"`
}

// A Message is a message's fields.
type Message struct {
	Type   string  `json:"type"`
	Fields []Field `json:"fields"`
}

// A Field is one field, under its name in JSON.
type Field struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Repeated bool     `json:"repeated,omitempty"`
	Map      bool     `json:"map,omitempty"`
	Oneof    string   `json:"oneof,omitempty"`
	Values   []string `json:"values,omitempty"` // of an enum
	Fields   []Field  `json:"fields,omitempty"` // of a message, unless it stands in itself
}

// Describe returns the methods of a service, in the order of its file.
func Describe(s protoreflect.ServiceDescriptor) []Method {
	var out []Method
	for i := range s.Methods().Len() {
		out = append(out, describe(s.Methods().Get(i)))
	}
	return out
}

func describe(m protoreflect.MethodDescriptor) Method {
	d := Method{
		Name:         fmt.Sprintf("%s/%s", m.Parent().FullName(), m.Name()),
		Permission:   "admin",
		ClientStream: m.IsStreamingClient(), ServerStream: m.IsStreamingServer(),
		Request: describeMessage(m.Input()), Response: describeMessage(m.Output()),
	}
	o := options(m)
	d.Summary, d.SessionOptional = o.GetSummary(), o.GetSessionOptional()
	if f := m.Input().Fields().ByName(protoreflect.Name(o.GetSessionField())); f != nil {
		d.SessionField = f.JSONName()
	}
	if p := o.GetPermission(); p != recipev1.Permission_PERMISSION_UNSPECIFIED {
		d.Permission = strings.ToLower(strings.TrimPrefix(p.String(), "PERMISSION_"))
	}
	switch level(m) {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		d.Idempotency = "read"
	case descriptorpb.MethodOptions_IDEMPOTENT:
		d.Idempotency = "idempotent"
	}
	return d
}

// Repeatable reports whether a call may be repeated after a lost reply.
func Repeatable(m protoreflect.MethodDescriptor) bool {
	return level(m) != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}

func level(m protoreflect.MethodDescriptor) descriptorpb.MethodOptions_IdempotencyLevel {
	o, _ := m.Options().(*descriptorpb.MethodOptions)
	return o.GetIdempotencyLevel()
}

func options(m protoreflect.MethodDescriptor) *recipev1.Method {
	o, ok := m.Options().(*descriptorpb.MethodOptions)
	if !ok || o == nil {
		return nil
	}
	own, _ := proto.GetExtension(o, recipev1.E_Method).(*recipev1.Method)
	return own
}

func describeMessage(m protoreflect.MessageDescriptor) Message {
	return Message{Type: string(m.FullName()), Fields: fields(m, map[protoreflect.FullName]bool{})}
}

// fields describes the fields of a message; inside are the messages around it.
func fields(m protoreflect.MessageDescriptor, inside map[protoreflect.FullName]bool) []Field {
	inside[m.FullName()] = true
	defer delete(inside, m.FullName())
	out := []Field{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		d := Field{Name: f.JSONName(), Repeated: f.IsList(), Map: f.IsMap()}
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
			d.Oneof = string(o.Name())
		}
		value := f
		if f.IsMap() {
			value = f.MapValue()
		}
		d.Type = typeOf(value)
		if e := value.Enum(); e != nil {
			for j := range e.Values().Len() {
				d.Values = append(d.Values, string(e.Values().Get(j).Name()))
			}
		}
		if v := value.Message(); v != nil && !inside[v.FullName()] && !strings.HasPrefix(string(v.FullName()), "google.") {
			d.Fields = fields(v, inside)
		}
		out = append(out, d)
	}
	return out
}

// typeOf names a field's type as a caller thinks of it.
func typeOf(f protoreflect.FieldDescriptor) string {
	if m := f.Message(); m != nil {
		switch m.FullName() {
		case "google.protobuf.Duration":
			return "duration"
		case "google.protobuf.Timestamp":
			return "timestamp"
		}
		return string(m.FullName())
	}
	if e := f.Enum(); e != nil {
		return string(e.FullName())
	}
	return f.Kind().String()
}
