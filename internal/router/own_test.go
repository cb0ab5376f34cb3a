package router_test

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	"github.com/conclavehq/conclave/internal/router"
)

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
	unknown    = healthpb.HealthCheckResponse_SERVICE_UNKNOWN
)

func TestHealth(t *testing.T) {
	f := newFront(t, router.Config{})
	client := healthpb.NewHealthClient(f.conn)
	check := func(service string, want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || got.GetStatus() != want {
			t.Errorf("%q: got %v, %v; want %v", service, got.GetStatus(), err, want)
		}
	}
	missing := func(service string) {
		t.Helper()
		_, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		want(t, err, codes.NotFound, "not_found")
	}
	check("", serving)
	missing(echoName)
	g := f.local(t, "echo", &echo{}, echoName)
	check(echoName, serving)
	missing(otherName)
	g.Suspend()
	check(echoName, notServing)
	check("", serving)
	list, err := client.List(t.Context(), &healthpb.HealthListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if s := list.GetStatuses(); s[""].GetStatus() != serving || s[echoName].GetStatus() != notServing || s["grpc.health.v1.Health"].GetStatus() != serving {
		t.Errorf("got %v", s)
	}
	g.Withdraw()
	missing(echoName)
	f.SetServing(false)
	check("", notServing)
	check("grpc.health.v1.Health", notServing)
}

func TestHealthWatch(t *testing.T) {
	f := newFront(t, router.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	watch, err := healthpb.NewHealthClient(f.conn).Watch(ctx, &healthpb.HealthCheckRequest{Service: echoName})
	if err != nil {
		t.Fatal(err)
	}
	next := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := watch.Recv()
		if err != nil || got.GetStatus() != want {
			t.Fatalf("got %v, %v; want %v", got.GetStatus(), err, want)
		}
	}
	next(unknown)
	proxy := f.proxy(t, "echo")
	next(notServing)
	p := startProcess(t, &echo{})
	proxy.Connect(p.conn, p.done)
	next(serving)
	f.local(t, "other", &echo{}, otherName) // says nothing of this one
	f.SetServing(false)
	next(notServing)
	f.SetServing(true)
	next(serving)
	close(p.done) // nobody is told, but whoever asks
	got, err := healthpb.NewHealthClient(f.conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: echoName})
	if err != nil || got.GetStatus() != notServing {
		t.Errorf("got %v, %v", got, err)
	}
	proxy.Disconnect()
	next(notServing)
	cancel()
	_, err = watch.Recv()
	want(t, err, codes.Canceled, "")
}

// TestReflection asks for services of this process and of another one, whose
// files nobody linked, and of which two have the same name.
func TestReflection(t *testing.T) {
	f := newFront(t, router.Config{})
	f.local(t, "echo", &echo{}, echoName)
	samePath := func(f *descriptorpb.FileDescriptorProto) { f.Name = new("plugin/test.proto") }
	for _, pkg := range []string{"plugina", "pluginb"} {
		file, err := buildFile(pkg, samePath)
		if err != nil {
			t.Fatal(err)
		}
		g := f.Registrar(pkg)
		g.Proxy(file.Services().Get(0))
		if err := g.Publish(); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := reflectionpb.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(req *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	var listed []string
	for _, s := range ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}).
		GetListServicesResponse().GetService() {
		listed = append(listed, s.GetName())
	}
	slices.Sort(listed)
	if want := []string{
		"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
		"plugina.EchoService", "pluginb.EchoService", echoName,
	}; !slices.Equal(listed, want) {
		t.Errorf("got %q, want %q", listed, want)
	}
	for symbol, pkg := range map[string]string{
		echoName: "routertest", "plugina.EchoService": "plugina", "pluginb.EchoService": "pluginb", "pluginb.EchoService.Do": "pluginb",
		"pluginb.Message": "pluginb", "routertest.Message.text": "routertest", "conclave.recipe.v1.Permission": "conclave.recipe.v1",
		"grpc.health.v1.Health": "grpc.health.v1",
	} {
		got := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
		file := firstFile(t, got)
		if file.GetPackage() != pkg {
			t.Errorf("%s: got the file of package %q, %v", symbol, file.GetPackage(), got.GetErrorResponse())
			continue
		}
		if pkg == "pluginb" {
			m, _ := proto.GetExtension(file.GetService()[0].GetMethod()[0].GetOptions(), recipev1.E_Method).(*recipev1.Method)
			if m.GetSummary() == "" {
				t.Errorf("%s: the method's options did not come through", symbol)
			}
		}
	}
	byPath := func(path string) *descriptorpb.FileDescriptorProto {
		return firstFile(t, ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileByFilename{FileByFilename: path}}))
	}
	if got := byPath("plugin/test.proto").GetPackage(); got != "plugina" {
		t.Errorf("by path: got the file of package %q", got)
	}
	if got := byPath("conclave/recipe/v1/options.proto").GetPackage(); got != "conclave.recipe.v1" {
		t.Errorf("by path: got the file of package %q", got)
	}
	for _, symbol := range []string{"nobody.Service", "pluginb.EchoService.Undo", ""} {
		got := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
		if code := codes.Code(got.GetErrorResponse().GetErrorCode()); code != codes.NotFound {
			t.Errorf("%q: got %v, want NotFound", symbol, code)
		}
	}
}

// TestReflectionOfACopy: a service is described by who serves it, not by another
// plugin whose files have an older copy of it.
func TestReflectionOfACopy(t *testing.T) {
	f := newFront(t, router.Config{})
	older, err := buildFile("copytest", func(f *descriptorpb.FileDescriptorProto) {
		f.Service[0].Method = f.Service[0].Method[:1]
	})
	if err != nil {
		t.Fatal(err)
	}
	newer, err := buildFile("copytest")
	if err != nil {
		t.Fatal(err)
	}
	for owner, sd := range map[string]protoreflect.ServiceDescriptor{"a": older.Services().ByName("OtherService"), "b": newer.Services().ByName("EchoService")} {
		g := f.Registrar(owner)
		g.Proxy(sd)
		if err := g.Publish(); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := reflectionpb.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for symbol, methods := range map[string]int{"copytest.OtherService": 1, "copytest.EchoService": len(echoMethods())} {
		if err := stream.Send(&reflectionpb.ServerReflectionRequest{
			Host: symbol, MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
		}); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(firstFile(t, got).GetService()[0].GetMethod()); n != methods {
			t.Errorf("%s: its file has an EchoService of %d methods, want %d", symbol, n, methods)
		}
		stream, err = reflectionpb.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context()) // one stream gets a file once
		if err != nil {
			t.Fatal(err)
		}
	}
}

func firstFile(t *testing.T, r *reflectionpb.ServerReflectionResponse) *descriptorpb.FileDescriptorProto {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	files := r.GetFileDescriptorResponse().GetFileDescriptorProto()
	if len(files) == 0 {
		return file
	}
	if err := proto.Unmarshal(files[0], file); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestReflectionAlpha asks as older tools do, in words that are deprecated.
func TestReflectionAlpha(t *testing.T) {
	f := newFront(t, router.Config{})
	stream, err := reflectionalphapb.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := &reflectionalphapb.ServerReflectionRequest_ListServices{}
	if err := stream.Send(&reflectionalphapb.ServerReflectionRequest{MessageRequest: list}); err != nil { //nolint:staticcheck // what is deprecated is what is tested
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || len(got.GetListServicesResponse().GetService()) != 3 { //nolint:staticcheck // what is deprecated is what is tested
		t.Errorf("got %v, %v", got, err)
	}
}
