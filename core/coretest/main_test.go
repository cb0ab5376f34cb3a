package coretest_test

import (
	"testing"

	"github.com/conclavehq/conclave/core/coretest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd, coretest.WithChildren(children())) }
