//go:build unix

package launcher_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/structpb"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// shop is a Spec with everything in it that another version can do wrong.
func shop() launcher.Spec {
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, more ...func(*descriptorpb.FieldDescriptorProto)) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: &kind, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		for _, m := range more {
			m(f)
		}
		return f
	}
	const text = descriptorpb.FieldDescriptorProto_TYPE_STRING
	kind := func(f *descriptorpb.FieldDescriptorProto) { f.TypeName = new(".shop.v1.Kind") }
	self := func(f *descriptorpb.FieldDescriptorProto) { f.TypeName = new(".shop.v1.Item") }
	file := &descriptorpb.FileDescriptorProto{Name: new("shop/v1/shop.proto"), Package: new("shop.v1"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: new("Item"), Field: []*descriptorpb.FieldDescriptorProto{
				field("name", 1, text), field("kind", 2, descriptorpb.FieldDescriptorProto_TYPE_ENUM, kind),
				field("parts", 3, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, self, func(f *descriptorpb.FieldDescriptorProto) {
					f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
				}),
			}},
			{Name: new("Config"), Field: []*descriptorpb.FieldDescriptorProto{field("limit", 1, descriptorpb.FieldDescriptorProto_TYPE_INT32)}},
		},
		EnumType: []*descriptorpb.EnumDescriptorProto{{Name: new("Kind"), Value: []*descriptorpb.EnumValueDescriptorProto{
			{Name: new("KIND_UNSPECIFIED"), Number: new(int32(0))}, {Name: new("KIND_BOOK"), Number: new(int32(1))}}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Shop"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: new("Buy"), InputType: new(".shop.v1.Item"), OutputType: new(".shop.v1.Item")}}}},
	}
	return launcher.Spec{Name: "shop", Version: "1.0.0", Path: "/bin/shop", Services: []string{"shop.v1.Shop"}, Config: "shop.v1.Config",
		Descriptors: &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}}}
}

func TestCompatible(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		change func(s *launcher.Spec, f *descriptorpb.FileDescriptorProto)
		want   string // "": it is compatible
	}{
		"nothing": {func(*launcher.Spec, *descriptorpb.FileDescriptorProto) {}, ""},
		"a field more": {func(_ *launcher.Spec, f *descriptorpb.FileDescriptorProto) {
			more := proto.CloneOf(f.MessageType[0].Field[0])
			more.Name, more.Number = new("more"), new(int32(9))
			f.MessageType[0].Field = append(f.MessageType[0].Field, more)
		}, ""},
		"a method more": {func(_ *launcher.Spec, f *descriptorpb.FileDescriptorProto) {
			more := proto.CloneOf(f.Service[0].Method[0])
			more.Name = new("Sell")
			f.Service[0].Method = append(f.Service[0].Method, more)
		}, ""},
		"a field less": {func(_ *launcher.Spec, f *descriptorpb.FileDescriptorProto) {
			f.MessageType[0].Field = f.MessageType[0].Field[1:]
		}, "field shop.v1.Item.name is missing"},
		"another name": {func(_ *launcher.Spec, f *descriptorpb.FileDescriptorProto) {
			f.MessageType[0].Field[0].Name = new("title")
		}, "field shop.v1.Item.name is called title"},
		"another type": {func(_ *launcher.Spec, f *descriptorpb.FileDescriptorProto) {
			f.MessageType[0].Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
		}, "field shop.v1.Item.name is of another type"},
		"one instead of many": {func(_ *launcher.Spec, f *descriptorpb.FileDescriptorProto) {
			f.MessageType[0].Field[2].Label = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
		}, "field shop.v1.Item.parts is of another type"},
		"a value less": {func(_ *launcher.Spec, f *descriptorpb.FileDescriptorProto) {
			f.EnumType[0].Value = f.EnumType[0].Value[:1]
		}, "value KIND_BOOK of shop.v1.Kind is missing"},
		"a stream": {func(_ *launcher.Spec, f *descriptorpb.FileDescriptorProto) {
			f.Service[0].Method[0].ServerStreaming = new(true)
		}, "method shop.v1.Shop.Buy streams in another way"},
		"another answer": {func(_ *launcher.Spec, f *descriptorpb.FileDescriptorProto) {
			f.Service[0].Method[0].OutputType = new(".shop.v1.Config")
		}, "shop.v1.Item became shop.v1.Config"},
		"no configuration": {func(s *launcher.Spec, _ *descriptorpb.FileDescriptorProto) { s.Config = "" }, "it takes no configuration any more"},
		"another configuration": {func(_ *launcher.Spec, f *descriptorpb.FileDescriptorProto) {
			f.MessageType[1].Field[0].Name = new("most")
		}, "field shop.v1.Config.limit is called most"},
	} {
		after := shop()
		after.Descriptors = proto.CloneOf(after.Descriptors)
		tt.change(&after, after.Descriptors.File[0])
		err := launcher.Compatible(shop(), after)
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, launcher.ErrIncompatible) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", what, err, tt.want)
		}
	}
}

// What is wrong with a Spec is said before anything runs.
func TestSpecs(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, launcher.Config{})
	for what, tt := range map[string]struct {
		change func(s *launcher.Spec)
		want   string
	}{
		"no name":           {func(s *launcher.Spec) { s.Name = "" }, "name: is empty"},
		"no program":        {func(s *launcher.Spec) { s.Path = "" }, "path: is empty"},
		"a short sum":       {func(s *launcher.Spec) { s.SHA256 = []byte{1} }, "sha256: has 1 bytes instead of 32"},
		"no service":        {func(s *launcher.Spec) { s.Services = nil }, "services: is empty"},
		"a missing service": {func(s *launcher.Spec) { s.Services = []string{"shop.v1.Nobody"} }, "shop.v1.Nobody: is not in the descriptors"},
		"a message instead": {func(s *launcher.Spec) { s.Services = []string{"shop.v1.Item"} }, "shop.v1.Item: is something else"},
		"a missing message": {func(s *launcher.Spec) { s.Config = "shop.v1.Nobody" }, "config: shop.v1.Nobody"},
		"no descriptors":    {func(s *launcher.Spec) { s.Descriptors = nil }, "shop.v1.Shop: is not in the descriptors"},
		"half of them": {func(s *launcher.Spec) {
			f := proto.CloneOf(s.Descriptors.File[0])
			f.Dependency = []string{"other.proto"}
			s.Descriptors = &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{f}}
		}, "descriptors: "},
	} {
		s := shop()
		tt.change(&s)
		if _, err := l.Plugin(s); !errors.Is(err, launcher.ErrSpec) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", what, err, tt.want)
		}
	}
	p, err := l.Plugin(shop())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Info().Config.(*dynamicpb.Message); !ok || p.Status().State != recipe.StateStopped {
		t.Errorf("%+v, %+v", p.Info(), p.Status())
	}
	if err := p.Restart(within(t)); !errors.Is(err, launcher.ErrNotOpen) {
		t.Errorf("restart of what does not run: %v", err)
	}
	next := shop()
	next.Version = "1.1.0"
	if err := p.Upgrade(within(t), next); err != nil || p.Info().Version != "1.1.0" {
		t.Errorf("upgrade of what does not run: %v, %s", err, p.Info().Version)
	}
}

// What cannot even be tried is shown, and why.
func TestBroken(t *testing.T) {
	t.Parallel()
	b := launcher.Broken("broken", "1.0.0", "Not here", errors.New("plugin.yaml: is missing"))
	if _, ok := b.Info().Config.(*structpb.Struct); !ok {
		t.Error("it does not take whatever the configuration says")
	}
	h := startHost(t, b)
	got, err := hostv1.NewHostServiceClient(connect(t, h)).Status(within(t), &hostv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	r := got.GetRecipes()[0]
	if r.GetState() != hostv1.RecipeState_RECIPE_STATE_QUARANTINED || r.GetMessage() != "plugin.yaml: is missing" || r.GetMode() != hostv1.RecipeMode_RECIPE_MODE_SUBPROCESS {
		t.Errorf("%v", r)
	}
	if p := got.GetProblems(); len(p) != 1 || p[0].GetReason() != "recipe_quarantined" || !strings.Contains(p[0].GetText(), "plugin.yaml: is missing") {
		t.Errorf("%v", p)
	}
}
