package router_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// TestMain makes the services of these tests known as if generated code of theirs
// were linked in.
func TestMain(m *testing.M) {
	file, err := buildFile("routertest")
	if err == nil {
		err = protoregistry.GlobalFiles.RegisterFile(file)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "router_test:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}
