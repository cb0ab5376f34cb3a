//go:build unix

package launcher_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conclavehq/conclave/core/recipe"
)

// trial is a recipe that does what it is told to.
type trial struct{ version string }

// describeTrial registers its service, as generated code would.
var describeTrial = sync.OnceValue(func() error {
	const text = ".google.protobuf.StringValue"
	method := func(name string, stream bool) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{Name: &name, InputType: new(text), OutputType: new(text), ServerStreaming: &stream}
	}
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("trial/v1/trial.proto"), Package: new("trial.v1"), Syntax: new("proto3"), Dependency: []string{"google/protobuf/wrappers.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("TrialService"),
			Method: []*descriptorpb.MethodDescriptorProto{method("Do", false), method("Watch", true)}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return protoregistry.GlobalFiles.RegisterFile(fd)
})

func (t trial) Info() recipe.Info {
	return recipe.Info{Name: "trial", Version: t.version, Summary: "Does what it is told"}
}

func (t trial) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if err := describeTrial(); err != nil {
		return nil, err
	}
	i := &tried{env: env, version: t.version}
	reg.RegisterService(&grpc.ServiceDesc{ServiceName: "trial.v1.TrialService", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Do", Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			what := new(wrapperspb.StringValue)
			if err := dec(what); err != nil {
				return nil, err
			}
			answer, err := i.do(ctx, what.GetValue())
			return wrapperspb.String(answer), err
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
				return err
			}
			if err := s.SendMsg(wrapperspb.String("begun")); err != nil {
				return err
			}
			<-s.Context().Done()
			return context.Cause(s.Context())
		}}},
	}, i)
	return i, nil
}

// tried is an instance of it.
type tried struct {
	env     recipe.Env
	version string
	ballast []byte
}

func (*tried) Close(context.Context) error { return nil }

// Collect tells one metric.
func (*tried) Collect(context.Context) ([]*dto.MetricFamily, error) {
	return []*dto.MetricFamily{{Name: new("trial_done_total"), Help: new("What was done."), Type: dto.MetricType_COUNTER.Enum(),
		Metric: []*dto.Metric{{Counter: &dto.Counter{Value: new(42.0)}}}}}, nil
}

// Check is worse than well once it is told to be.
func (*tried) Check(context.Context) error {
	if b, err := os.ReadFile(os.Getenv("TRIAL_ILL")); err == nil {
		if string(b) == "hang" {
			select {}
		}
		return fmt.Errorf("%s", b)
	}
	return nil
}

func (i *tried) do(ctx context.Context, what string) (string, error) {
	verb, arg, _ := strings.Cut(what, " ")
	switch verb {
	case "version":
		return i.version, nil
	case "pid":
		return strconv.Itoa(os.Getpid()), nil
	case "echo":
		return arg, nil
	case "sleep":
		d, err := time.ParseDuration(arg)
		if err != nil {
			return "", err
		}
		select {
		case <-time.After(d):
			return "slept", nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	case "wait":
		<-ctx.Done()
		return "", context.Cause(ctx)
	case "panic":
		panic("a mistake")
	case "crash":
		go panic("a mistake that nobody catches")
		<-ctx.Done()
		return "", ctx.Err()
	case "exit":
		os.Exit(7)
	case "big":
		n, err := strconv.Atoi(arg)
		return strings.Repeat("x", n), err
	case "grow":
		n, err := strconv.Atoi(arg)
		i.ballast = bytes.Repeat([]byte{1}, n)
		return strconv.Itoa(len(i.ballast)), err
	case "env":
		return strings.Join(os.Environ(), "\n"), nil
	case "log":
		i.env.Log.Warn(arg, "key", "value")
		return "", nil
	case "print":
		fmt.Println(arg)
		fmt.Fprintln(os.Stderr, arg)
		return "", nil
	case "die":
		fmt.Println(arg + " on stdout")
		fmt.Fprintln(os.Stderr, arg+" on stderr")
		return "", syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "attack":
		words := strings.Fields(arg)
		lease, err := strconv.ParseInt(words[0], 16, 64)
		if err != nil {
			return "", err
		}
		n, through := attack(ctx, i.env.Client, words[1:], clientv3.LeaseID(lease))
		return fmt.Sprintf("through %v of %d", through, n), nil
	case "put":
		key, err := i.env.Key("default", arg)
		if err != nil {
			return "", err
		}
		_, err = i.env.Client.Put(ctx, key, "v")
		return key, recipe.Status(err)
	}
	return "", recipe.Errorf(codes.InvalidArgument, "invalid_verb", "verb: %q is unknown", verb)
}

// misbehave is the main of programs that are no plugins.
func misbehave(how string) {
	switch how {
	case "silent":
		os.Exit(1)
	case "prints":
		fmt.Println("hello, I am starting")
		select {}
	case "hangs":
		select {}
	case "version":
		fmt.Println("1|99|unix|/nowhere|grpc|")
		select {}
	case "elsewhere":
		fmt.Println("1|1|unix|/var/run/docker.sock|grpc|")
		select {}
	case "mute":
		fmt.Printf("1|1|unix|%s/none|grpc|\n", os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
		select {}
	case "endless":
		for {
			fmt.Print(strings.Repeat("x", 4096))
		}
	}
	os.Exit(2)
}
