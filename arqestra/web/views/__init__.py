"""What is read for pages and API alike: functions from a site and a query to frozen values, which change nothing."""
