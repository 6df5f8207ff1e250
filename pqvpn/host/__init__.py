"""Linux: TUN, UDP offloads, routes, privileges, clock. The only package that speaks to the kernel's configuration."""
