package main

import (
	"os"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/conclavehq/conclave/plugins"
	"github.com/conclavehq/conclave/plugins/catalog"
)

// What a host knows before it runs the program is what the program is.
func TestManifest(t *testing.T) {
	text, err := os.ReadFile("plugin.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := catalog.ParseManifest(text)
	if err != nil {
		t.Fatal(err)
	}
	d, err := plugins.Describe(Recipe{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != d.GetName() || m.Version != d.GetVersion() || m.Summary != d.GetSummary() || m.Config != d.GetConfig() || !slices.Equal(m.Services, d.GetServices()) {
		t.Errorf("plugin.yaml says %+v, the program %s %s %q %q %v", m, d.GetName(), d.GetVersion(), d.GetSummary(), d.GetConfig(), d.GetServices())
	}
	raw, err := os.ReadFile(m.Descriptors.File)
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(raw, set); err != nil {
		t.Fatal(err)
	}
	own := func(s *descriptorpb.FileDescriptorSet) *descriptorpb.FileDescriptorProto {
		i := slices.IndexFunc(s.GetFile(), func(f *descriptorpb.FileDescriptorProto) bool { return len(f.GetService()) > 0 })
		if i < 0 {
			t.Fatal("no file has a service")
		}
		return s.GetFile()[i]
	}
	if !proto.Equal(own(set), own(d.GetDescriptors())) {
		t.Error("descriptors.binpb is not what the program is generated from: buf build proto --as-file-descriptor-set --exclude-source-info -o descriptors.binpb")
	}
}
