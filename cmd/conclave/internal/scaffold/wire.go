package scaffold

import (
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
)

// kvFile and rpcFile are what etcd's files are called where they are imported; Go
// has them registered under other names.
const (
	kvFile  = "etcd/api/mvccpb/kv.proto"
	rpcFile = "etcd/api/etcdserverpb/rpc.proto"
)

// wireDescriptors returns the set of all that a plugin without this module has to
// know: the control protocol, the details of errors, and etcd's API as far as a
// recipe may use it.
func wireDescriptors() ([]byte, error) {
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range []protoreflect.FileDescriptor{
		descriptorpb.File_google_protobuf_descriptor_proto, anypb.File_google_protobuf_any_proto, durationpb.File_google_protobuf_duration_proto,
		status.File_google_rpc_status_proto, errdetails.File_google_rpc_error_details_proto,
		recipev1.File_conclave_recipe_v1_options_proto, pluginv1.File_conclave_plugin_v1_control_proto,
	} {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	set.File = append(set.File, etcdFiles()...)
	return proto.MarshalOptions{Deterministic: true}.Marshal(set)
}

// etcdFiles returns etcd's KV, Watch and Lease and what they need, without
// options, which would import files that say nothing to a client.
func etcdFiles() []*descriptorpb.FileDescriptorProto {
	kv, rpc := protodesc.ToFileDescriptorProto(mvccpb.File_kv_proto), protodesc.ToFileDescriptorProto(etcdserverpb.File_rpc_proto)
	kv.Name, rpc.Name, rpc.Dependency = new(kvFile), new(rpcFile), []string{kvFile}
	rpc.Service = slices.DeleteFunc(rpc.GetService(), func(s *descriptorpb.ServiceDescriptorProto) bool {
		return !slices.Contains([]string{"KV", "Watch", "Lease"}, s.GetName())
	})
	need := make(map[string]bool)
	for _, s := range rpc.GetService() {
		s.Options = nil
		for _, m := range s.GetMethod() {
			m.Options = nil
			reach(rpc, m.GetInputType(), need)
			reach(rpc, m.GetOutputType(), need)
		}
	}
	prefix := "." + rpc.GetPackage() + "."
	rpc.MessageType = slices.DeleteFunc(rpc.GetMessageType(), func(m *descriptorpb.DescriptorProto) bool { return !need[prefix+m.GetName()] })
	rpc.EnumType = slices.DeleteFunc(rpc.GetEnumType(), func(e *descriptorpb.EnumDescriptorProto) bool { return !need[prefix+e.GetName()] })
	for _, f := range []*descriptorpb.FileDescriptorProto{kv, rpc} {
		plain(f)
	}
	return []*descriptorpb.FileDescriptorProto{kv, rpc}
}

// reach notes a type and all that its fields need.
func reach(f *descriptorpb.FileDescriptorProto, name string, need map[string]bool) {
	top, ok := strings.CutPrefix(name, "."+f.GetPackage()+".")
	if !ok {
		return
	}
	top, _, _ = strings.Cut(top, ".")
	name = "." + f.GetPackage() + "." + top
	if need[name] {
		return
	}
	need[name] = true
	for _, m := range f.GetMessageType() {
		if m.GetName() == top {
			reachFields(f, m, need)
		}
	}
}

func reachFields(f *descriptorpb.FileDescriptorProto, m *descriptorpb.DescriptorProto, need map[string]bool) {
	for _, field := range m.GetField() {
		reach(f, field.GetTypeName(), need)
	}
	for _, nested := range m.GetNestedType() {
		reachFields(f, nested, need)
	}
}

// plain takes options and imports that only they need out of a file.
func plain(f *descriptorpb.FileDescriptorProto) {
	f.Options = nil
	f.Dependency = slices.DeleteFunc(f.GetDependency(), func(d string) bool { return d != kvFile })
	for _, e := range f.GetEnumType() {
		plainEnum(e)
	}
	for _, m := range f.GetMessageType() {
		plainMessage(m)
	}
}

func plainEnum(e *descriptorpb.EnumDescriptorProto) {
	e.Options = nil
	for _, v := range e.GetValue() {
		v.Options = nil
	}
}

func plainMessage(m *descriptorpb.DescriptorProto) {
	m.Options = nil
	for _, f := range m.GetField() {
		f.Options = nil
	}
	for _, e := range m.GetEnumType() {
		plainEnum(e)
	}
	for _, nested := range m.GetNestedType() {
		plainMessage(nested)
	}
}
