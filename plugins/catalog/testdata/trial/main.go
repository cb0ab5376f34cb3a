// Command trial is a plugin for tests. What it is and does is written, as JSON,
// behind its own program: one build plays many plugins, each with a SHA-256 of its
// own.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins"
)

const (
	marker    = "\nTRIAL" // stands before the orders
	maxOrders = 1 << 10
)

// orders say what the plugin is and does.
type orders struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Mode    string `json:"mode"`   // "": well; crash: it panics when it is opened; hang: it never begins; poor: it lacks a method
	Always  string `json:"always"` // it is written to the log when the plugin is opened
}

func main() {
	o := orders{Name: "trial", Version: "1.0.0"}
	path, err := os.Executable()
	if err == nil {
		err = o.read(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	describing := len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "--describe")
	if o.Mode == "hang" && !describing {
		select {}
	}
	config, err := describe(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if describing {
		o.Mode = ""
	}
	plugins.Serve(trial{o, config})
}

func (o *orders) read(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at := bytes.LastIndex(b, []byte(marker+"{")) // which the program itself may hold too
	if at < len(b)-maxOrders {
		return nil
	}
	return json.Unmarshal(b[at+len(marker):], o)
}

// describe registers the service and the configuration, as generated code would.
func describe(o orders) (protoreflect.MessageDescriptor, error) {
	const text = ".google.protobuf.StringValue"
	pkg := strings.ReplaceAll(o.Name, "-", "_") + ".v1"
	method := func(name string) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{Name: &name, InputType: new(text), OutputType: new(text)}
	}
	methods := []*descriptorpb.MethodDescriptorProto{method("Hello")}
	if o.Mode != "poor" {
		methods = append(methods, method("Version"))
	}
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new(strings.ReplaceAll(pkg, ".", "/") + "/trial.proto"), Package: &pkg, Syntax: new("proto3"), Dependency: []string{"google/protobuf/wrappers.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("TrialService"), Method: methods}},
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Config"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: new("greeting"), JsonName: new("greeting"), Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return nil, err
	}
	return fd.Messages().ByName("Config"), protoregistry.GlobalFiles.RegisterFile(fd)
}

type trial struct {
	orders

	config protoreflect.MessageDescriptor
}

func (t trial) Info() recipe.Info {
	return recipe.Info{Name: t.Name, Version: t.Version, Summary: "Does what it is told", Config: dynamicpb.NewMessage(t.config)}
}

func (t trial) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if t.Mode == "crash" {
		panic("trial: as it was told to")
	}
	if t.Always != "" {
		env.Log.Warn(t.Always)
	}
	config := env.Config.ProtoReflect()
	greeting := config.Get(config.Descriptor().Fields().ByName("greeting")).String()
	answer := func(name, prefix string) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			return proto.Message(wrapperspb.String(prefix + in.GetValue())), nil
		}}
	}
	desc := &grpc.ServiceDesc{ServiceName: string(t.config.ParentFile().Package()) + ".TrialService", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{answer("Hello", greeting+" ")}}
	if t.Mode != "poor" {
		desc.Methods = append(desc.Methods, answer("Version", t.Version))
	}
	reg.RegisterService(desc, t)
	return t, nil
}

func (trial) Close(context.Context) error { return nil }
