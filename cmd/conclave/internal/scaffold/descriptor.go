package scaffold

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
)

// descriptors returns the descriptor of the project's .proto file, and the set
// of it and all that it imports.
func (p *Project) descriptors() (own, set []byte, err error) {
	model, err := templates.ReadFile("templates/gen/model.binpb")
	if err != nil {
		return nil, nil, err
	}
	f := new(descriptorpb.FileDescriptorProto)
	if err := proto.Unmarshal(model, f); err != nil {
		return nil, nil, fmt.Errorf("the model's descriptor: %w", err)
	}
	p.rename(f)
	stable := proto.MarshalOptions{Deterministic: true}
	if own, err = stable.Marshal(f); err != nil {
		return nil, nil, err
	}
	all := &descriptorpb.FileDescriptorSet{}
	for _, file := range []protoreflect.FileDescriptor{descriptorpb.File_google_protobuf_descriptor_proto, recipev1.File_conclave_recipe_v1_options_proto} {
		all.File = append(all.File, protodesc.ToFileDescriptorProto(file))
	}
	all.File = append(all.File, f)
	if set, err = stable.Marshal(all); err != nil {
		return nil, nil, err
	}
	return own, set, nil
}

// rename makes the model's descriptor the project's.
func (p *Project) rename(f *descriptorpb.FileDescriptorProto) {
	old, now := "."+f.GetPackage()+".", "."+p.Owner+"."+p.pkg()+".v1."
	f.Name = new(path.Join(p.Owner, p.pkg(), "v1", p.pkg()+".proto"))
	f.Package = new(strings.Trim(now, "."))
	f.Options.GoPackage = new(p.Module + "/proto/" + path.Join(p.Owner, p.pkg(), "v1") + ";" + p.pkg() + "v1")
	for _, s := range f.GetService() {
		s.Name = new(p.typ() + "Service")
		for _, m := range s.GetMethod() {
			m.InputType = new(strings.Replace(m.GetInputType(), old, now, 1))
			m.OutputType = new(strings.Replace(m.GetOutputType(), old, now, 1))
		}
	}
}

// literal is a descriptor as protoc-gen-go writes it into a program: a string of
// one line for each that ends with the byte 10, which gofmt aligns.
func literal(b []byte) string {
	var out strings.Builder
	for i, line := range bytes.SplitAfter(b, []byte{'\n'}) {
		if i > 0 {
			out.WriteString(" +\n\t")
		}
		fmt.Fprintf(&out, "%q", line)
	}
	return out.String()
}
