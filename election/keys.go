package election

// recipe is the package's part of the keyspace: every key of an election begins
// with /conclave/<namespace>/election/<name>/. Which keys follow, and which
// transactions write them, is the ownership protocol's: internal/waitqueue.
const recipe = "election"
