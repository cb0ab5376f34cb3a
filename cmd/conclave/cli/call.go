package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"sigs.k8s.io/yaml"

	"github.com/conclavehq/conclave/cmd/conclave/internal/catalog"
	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
)

// maxInput bounds the JSON that call reads: a request larger than this is refused
// by every host.
const maxInput = 8 << 20

func (a *app) callCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "call SERVICE/METHOD [JSON | -]",
		Short: "Call any method of any recipe, with JSON",
		Long: `call makes one call and prints the answer as JSON; of a method that streams its
answers, one object a line until the stream ends. The request is JSON, "-" reads it
from standard input, and without one it is {}. The method is asked for at the host,
so recipes of third parties work like the standard ones; the package may be left out
where that is clear. See conclave recipe describe for methods and fields.`,
		Example: `  conclave call conclave.lock.v1.LockService/Why '{"name":"nightly"}'
  conclave call LockService/List
  conclave call SessionService/Open '{"ttl":"15s","owner":"me"}' -o json | jq -r .sessionId
  conclave call LockService/Watch '{"name":"nightly"}'`,
		Args: callArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			input := []byte("{}")
			if len(args) > 1 {
				input = []byte(args[1])
			}
			if string(input) == "-" {
				var err error
				if input, err = io.ReadAll(io.LimitReader(a.stdin, maxInput+1)); err != nil {
					return fmt.Errorf("standard input: %w", err)
				}
			}
			if len(input) > maxInput {
				return usage("invalid_request", "", "the request is larger than %d bytes", maxInput)
			}
			return a.call(cmd.Context(), args[0], input)
		},
	}
}

func callArgs(cmd *cobra.Command, args []string) error {
	hint := "such as: conclave call LockService/Why '{\"name\":\"nightly\"}'"
	switch {
	case len(args) == 0:
		return usage("invalid_arguments", hint, "SERVICE/METHOD is missing")
	case len(args) > 2:
		return usage("invalid_arguments", "quote the JSON for the shell, "+hint, "unexpected argument %q", args[2])
	case strings.Count(args[0], "/") != 1 || strings.HasPrefix(args[0], "/") || strings.HasSuffix(args[0], "/"):
		return usage("invalid_method", hint, "%q is not SERVICE/METHOD", args[0])
	}
	return nil
}

func (a *app) call(ctx context.Context, path string, input []byte) error {
	t, c, err := a.hostOnly("call")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := a.bounded(ctx, 0) // a call may wait as long as it likes
	defer cancel()
	m, s, err := a.findMethod(ctx, c, path)
	if err != nil {
		return explain(ctx, t, err)
	}
	if m.IsStreamingClient() {
		return usage("invalid_method", "a method that takes one request does the same, such as Renew for KeepAlive",
			"%s takes a stream of requests, and call sends one", path)
	}
	types := dynamicpb.NewTypes(s.Files)
	req := dynamicpb.NewMessage(m.Input())
	if err := readRequest(input, string(m.Parent().FullName()), req, types); err != nil {
		return err
	}
	calling := &calling{a: a, m: m, types: types, path: fmt.Sprintf("/%s/%s", s.FullName(), m.Name())}
	return explain(ctx, t, calling.make(ctx, c, req))
}

// hostOnly returns the client of hosts for a command that etcd alone cannot serve.
func (a *app) hostOnly(command string) (target, *remote.Client, error) {
	t, err := a.target()
	if err != nil {
		return t, nil, err
	}
	if t.direct() {
		return t, nil, usage("invalid_target", "name a host with --api", "%s asks a host, and %s names etcd", command, t.from)
	}
	c, err := a.host(t)
	return t, c, err
}

// A calling is one call of a method.
type calling struct {
	a     *app
	m     protoreflect.MethodDescriptor
	types *dynamicpb.Types
	path  string
}

func (k *calling) make(ctx context.Context, c *remote.Client, req proto.Message) error {
	if k.m.IsStreamingServer() {
		return k.stream(ctx, c, req)
	}
	do := c.Once
	if catalog.Repeatable(k.m) {
		do = c.Do
	}
	resp := dynamicpb.NewMessage(k.m.Output())
	err := do(ctx, func(cc grpc.ClientConnInterface) error { return cc.Invoke(ctx, k.path, req, resp) })
	if err != nil {
		return err
	}
	return k.print(resp)
}

// stream prints what comes until the stream ends. Only before its first message it
// may go on at another host.
func (k *calling) stream(ctx context.Context, c *remote.Client, req proto.Message) error {
	var ended error
	err := c.Do(ctx, func(cc grpc.ClientConnInterface) error {
		s, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, k.path)
		if err == nil {
			err = s.SendMsg(req)
		}
		if err == nil {
			err = s.CloseSend()
		}
		for first := true; err == nil || errors.Is(err, io.EOF); first = false {
			resp := dynamicpb.NewMessage(k.m.Output())
			if err = s.RecvMsg(resp); err == nil {
				err = k.print(resp)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil && !first {
				ended = err
				return nil
			}
		}
		return err
	})
	return errors.Join(err, ended)
}

func (k *calling) print(m proto.Message) error {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true, Resolver: k.types}.Marshal(m)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	switch output := k.a.flags.output.value; {
	case output == outputYAML:
		y, err := yaml.JSONToYAML(b)
		if err != nil {
			return err
		}
		if k.m.IsStreamingServer() {
			out.WriteString("---\n")
		}
		out.Write(y)
	case output == outputTable && isTerminal(k.a.stdout) && !k.m.IsStreamingServer():
		err = json.Indent(&out, b, "", "  ")
		out.WriteByte('\n')
	default:
		// protojson varies its white space from build to build.
		err = json.Compact(&out, b)
		out.WriteByte('\n')
	}
	if err != nil {
		return err
	}
	_, err = k.a.stdout.Write(out.Bytes())
	return err
}

// unknownField finds the name in protojson's error.
var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)

// readRequest parses the request. What it says names the message, the field and,
// for a field that is not known, one that is.
func readRequest(input []byte, service string, req *dynamicpb.Message, types *dynamicpb.Types) error {
	err := protojson.UnmarshalOptions{Resolver: types}.Unmarshal(input, req)
	if err == nil {
		return nil
	}
	d := req.Descriptor()
	text := strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto:"))
	hint := "see its fields with: conclave recipe describe " + service
	if name := unknownField.FindStringSubmatch(text); name != nil {
		var known []string
		for i := range d.Fields().Len() {
			known = append(known, d.Fields().Get(i).JSONName())
		}
		if h := didYouMean(name[1], known, ""); h != "" {
			hint = h
		}
	}
	return usage("invalid_request", hint, "%s: %s", d.FullName(), text)
}

// findMethod finds the method that path names. The package may be left out if one
// service only has the rest of the name.
func (a *app) findMethod(ctx context.Context, c *remote.Client, path string) (protoreflect.MethodDescriptor, *catalog.Service, error) {
	service, method, _ := strings.Cut(path, "/")
	var services []string
	var s *catalog.Service
	err := c.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
		if services, err = catalog.Services(ctx, cc); err != nil {
			return err
		}
		full, err := resolveService(service, services)
		if err != nil {
			return err
		}
		s, err = catalog.Load(ctx, cc, full)
		return err
	})
	if err != nil {
		return nil, nil, noReflection(err)
	}
	if m := s.Methods().ByName(protoreflect.Name(method)); m != nil {
		return m, s, nil
	}
	var known []string
	for i := range s.Methods().Len() {
		known = append(known, string(s.Methods().Get(i).Name()))
	}
	hint := didYouMean(method, known, service+"/")
	if hint == "" {
		hint = "it has " + strings.Join(known, ", ")
	}
	return nil, nil, notFound(hint, "%s has no method %q", s.FullName(), method)
}

// resolveService returns the full name of a service.
func resolveService(typed string, services []string) (string, error) {
	var matches, short []string
	for _, name := range services {
		last := name[strings.LastIndexByte(name, '.')+1:]
		short = append(short, last)
		if name == typed {
			return name, nil
		}
		if last == typed {
			matches = append(matches, name)
		}
	}
	switch {
	case len(matches) == 1:
		return matches[0], nil
	case len(matches) > 1:
		return "", usage("invalid_method", "write one of "+strings.Join(matches, ", "), "%q is the name of %d services", typed, len(matches))
	}
	known := short
	if strings.Contains(typed, ".") {
		known = services
	}
	hint := didYouMean(typed, known, "")
	if hint == "" {
		hint = "see conclave recipe ls"
	}
	return "", notFound(hint, "the host has no service %q", typed)
}

func notFound(hint, format string, args ...any) *Error {
	return &Error{Exit: ExitNotFound, Code: codeName(codes.NotFound), Reason: "not_found", Hint: hint, Message: fmt.Sprintf(format, args...)}
}

// noReflection says what it means when descriptors cannot be had.
func noReflection(err error) error {
	if status.Code(err) != codes.Unimplemented {
		return err
	}
	return &Error{Exit: ExitFailed, Code: codeName(codes.Unimplemented), Reason: "unimplemented", cause: err,
		Message: "what answers gives no descriptors out (gRPC reflection)", Hint: "check that the address is a Conclave host's API and not etcd's"}
}
