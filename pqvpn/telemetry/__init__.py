"""Facts become signals here. In this version the only signal is a structured log line (`jsonlog`)."""
