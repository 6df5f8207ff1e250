"""What keeps a node up. In this version: children that end are started again (`supervisor`)."""
