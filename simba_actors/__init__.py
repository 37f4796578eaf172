"""DSPy's SIMBA as a supervised team of asyncio actors."""
