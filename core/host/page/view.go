package page

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
)

// What the template shows.
type (
	view struct {
		Name    string
		Version string
		Recipes []*recipe
		Methods int
	}
	recipe struct {
		Name     string
		Version  string
		Summary  string
		State    string
		Services []service
	}
	service struct {
		Name    string // the full one
		Short   string
		Package string
		Text    string
		Methods []method
	}
	method struct {
		Name       string
		ID         string // of the element
		Path       string
		Summary    string
		Text       string
		Permission string
		Stream     string // "", "server" or "client"
		Idempotent bool
		Deprecated bool
		Fields     []field
		Answers    []field
		AnswerType string
	}
	field struct {
		Name    string
		ID      string
		Type    string
		Text    string
		Input   input
		Options []string
		Example string
		Session bool
	}
)

// An input is the form element for a field.
type input string

const (
	inputText input = "text" // also for numbers: protojson reads them from strings
	inputBool input = "bool"
	inputEnum input = "enum"
	inputJSON input = "json" // messages, lists and maps
)

func newView(options Options) view {
	v := view{Name: options.Name, Version: options.Version}
	byName := map[string]*recipe{}
	for _, s := range options.Services() {
		r := byName[s.Recipe]
		if r == nil {
			r = &recipe{Name: s.Recipe, Version: s.Version, Summary: s.Summary, State: s.State}
			byName[s.Recipe] = r
			v.Recipes = append(v.Recipes, r)
		}
		r.Services = append(r.Services, newService(s.Descriptor))
		v.Methods += s.Descriptor.Methods().Len()
	}
	return v
}

func newService(sd protoreflect.ServiceDescriptor) service {
	s := service{
		Name: string(sd.FullName()), Short: string(sd.Name()), Package: string(sd.FullName().Parent()), Text: comment(sd),
	}
	for i := range sd.Methods().Len() {
		s.Methods = append(s.Methods, newMethod(sd.Methods().Get(i)))
	}
	return s
}

func newMethod(md protoreflect.MethodDescriptor) method {
	known, _ := proto.GetExtension(md.Options(), recipev1.E_Method).(*recipev1.Method)
	options, _ := md.Options().(*descriptorpb.MethodOptions)
	m := method{
		Name:       string(md.Name()),
		ID:         string(md.FullName()),
		Path:       fmt.Sprintf("/%s/%s", md.Parent().FullName(), md.Name()),
		Summary:    known.GetSummary(),
		Text:       comment(md),
		Permission: permission(known.GetPermission()),
		Idempotent: options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN,
		Deprecated: options.GetDeprecated(),
		Fields:     fields(md, md.Input()),
		Answers:    fields(md, md.Output()),
		AnswerType: string(md.Output().Name()),
	}
	switch {
	case md.IsStreamingClient():
		m.Stream = "client"
	case md.IsStreamingServer():
		m.Stream = "server"
	}
	for i := range m.Fields {
		if f := md.Input().Fields().ByJSONName(m.Fields[i].Name); f != nil && string(f.Name()) == known.GetSessionField() {
			m.Fields[i].Session = true
		}
	}
	return m
}

// permission returns what a caller needs; nothing said counts as admin.
func permission(p recipev1.Permission) string {
	if p == recipev1.Permission_PERMISSION_UNSPECIFIED {
		p = recipev1.Permission_PERMISSION_ADMIN
	}
	return strings.ToLower(strings.TrimPrefix(p.String(), "PERMISSION_"))
}

func fields(of protoreflect.MethodDescriptor, md protoreflect.MessageDescriptor) []field {
	var all []field
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		f := field{
			Name: fd.JSONName(), ID: string(of.FullName()) + "." + fd.JSONName(),
			Type: typeOf(fd), Text: comment(fd), Input: inputText,
		}
		switch {
		case fd.IsList(), fd.IsMap():
			f.Input, f.Example = inputJSON, example(fd, 0)
		case fd.Kind() == protoreflect.BoolKind:
			f.Input = inputBool
		case fd.Kind() == protoreflect.EnumKind:
			f.Input, f.Options = inputEnum, values(fd.Enum())
		case fd.Message() != nil && !isText(fd.Message()):
			f.Input, f.Example = inputJSON, example(fd, 0)
		default:
			f.Example = strings.Trim(example(fd, 0), `"`)
		}
		all = append(all, f)
	}
	return all
}

func values(ed protoreflect.EnumDescriptor) []string {
	var names []string
	for i := range ed.Values().Len() {
		names = append(names, string(ed.Values().Get(i).Name()))
	}
	return names
}

// typeOf names a field's type as its author wrote it.
func typeOf(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.IsMap():
		return fmt.Sprintf("map<%s, %s>", typeOf(fd.MapKey()), typeOf(fd.MapValue()))
	case fd.IsList():
		return "repeated " + kindOf(fd)
	default:
		return kindOf(fd)
	}
}

func kindOf(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.Message() != nil:
		return string(fd.Message().Name())
	case fd.Enum() != nil:
		return string(fd.Enum().Name())
	default:
		return fd.Kind().String()
	}
}

// isText reports whether a message is a string in JSON.
func isText(md protoreflect.MessageDescriptor) bool {
	switch md.FullName() {
	case "google.protobuf.Duration", "google.protobuf.Timestamp", "google.protobuf.FieldMask", "google.protobuf.StringValue",
		"google.protobuf.BytesValue", "google.protobuf.Int64Value", "google.protobuf.UInt64Value", "google.protobuf.Int32Value", "google.protobuf.UInt32Value":
		return true
	}
	return false
}

// maxDepth is how far an example goes into messages.
const maxDepth = 2

// example returns what a field may look like, in JSON.
func example(fd protoreflect.FieldDescriptor, depth int) string {
	switch {
	case fd.IsMap():
		return fmt.Sprintf(`{"key": %s}`, one(fd.MapValue(), depth))
	case fd.IsList():
		return "[" + one(fd, depth) + "]"
	default:
		return one(fd, depth)
	}
}

func one(fd protoreflect.FieldDescriptor, depth int) string {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return "true"
	case protoreflect.StringKind, protoreflect.BytesKind:
		return `""`
	case protoreflect.EnumKind:
		name, err := json.Marshal(string(fd.Enum().Values().Get(0).Name()))
		if err != nil {
			return `""`
		}
		return string(name)
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return message(fd.Message(), depth)
	default:
		return "0"
	}
}

func message(md protoreflect.MessageDescriptor, depth int) string {
	switch md.FullName() {
	case "google.protobuf.Duration":
		return `"15s"`
	case "google.protobuf.Timestamp":
		return `"2026-01-31T12:00:00Z"`
	}
	if isText(md) {
		return `""`
	}
	if depth >= maxDepth || md.FullName().Parent() == "google.protobuf" {
		return "{}"
	}
	var members []string
	for i := range md.Fields().Len() {
		f := md.Fields().Get(i)
		members = append(members, fmt.Sprintf("%q: %s", f.JSONName(), example(f, depth+1)))
	}
	return "{" + strings.Join(members, ", ") + "}"
}

// comment returns what a descriptor's author wrote above it; linked descriptors
// have none.
func comment(d protoreflect.Descriptor) string {
	if d.ParentFile() == nil {
		return ""
	}
	return strings.Join(strings.Fields(d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments), " ")
}
